"""From conditions to pictures: pipeline, schedulers, start pictures, controls, LoRAs, previews, redraws."""
