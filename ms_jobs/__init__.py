"""What a job is and where it lives: its record, its state machine in Redis, its files, its queue. No torch, no HTTP."""
