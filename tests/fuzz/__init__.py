"""Fuzzing: what comes from servers, disks and strangers' lists. `make fuzz`."""
