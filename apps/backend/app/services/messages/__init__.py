"""Messages to travellers: what stands in them, and that each is sent once."""
