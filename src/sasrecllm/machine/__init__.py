"""The machine and the process: device, memory, signals, output, what the system refuses."""
