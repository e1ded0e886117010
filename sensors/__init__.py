"""What the platform waits for: one module per event."""
