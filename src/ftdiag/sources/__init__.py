"""Sources read one thing of the target each and return values; nothing else of ftdiag touches a target."""
