"""What media there are, where they are, and what a choice would free: counted, not changed."""
