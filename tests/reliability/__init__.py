"""What xclipt promises of kills, faults, damage, crowds and hostile files, put to the test."""
