"""What `mezzotint.load` opens: one kind of model per module, behind one interface."""
