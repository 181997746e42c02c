"""The local page: runs and their curves while they train, tasks as prompts, reports, and base beside tuned model."""
