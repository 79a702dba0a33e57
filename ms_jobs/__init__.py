"""Jobs and where they are stored: record, state machine in Redis, files, queue. No torch, no HTTP."""
