"""An evaluation as other people read it: HTML, plots, tables and other tools' formats."""
