"""What translates: one module an engine, behind one interface."""
