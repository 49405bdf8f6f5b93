"""What a program requests: fields, spellings, sources, and the plan."""
