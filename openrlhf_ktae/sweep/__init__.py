"""A sweep: what its file asks for, where each run stands, what came out, and how sure that is. Starts nothing."""
