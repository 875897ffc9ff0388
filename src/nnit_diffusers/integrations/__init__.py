"""What other libraries load by name: a module for each, imported by nobody but that library."""
