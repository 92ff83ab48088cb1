"""What quantisation costs a model, and how a text of the user's makes it cost less."""
