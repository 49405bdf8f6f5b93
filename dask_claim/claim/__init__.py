"""What a program asks for: fields, spellings, sources, and the plan."""
