"""The consent decision: pure functions over facts, policy and reference data. No I/O, no clock."""
