"""What a picture shows: the judge and the views it reads."""
