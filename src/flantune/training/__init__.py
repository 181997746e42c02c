"""Training: one loop, the loss, the optimizer, checkpoints. Import the modules by name; torch loads with them."""
