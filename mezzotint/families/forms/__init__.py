"""What the cards share: forms of training objects by the kind of state."""
