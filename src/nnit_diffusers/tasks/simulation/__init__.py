"""Tasks in simulators: what Gymnasium, ManiSkill and Meta-World share. No simulator is imported here."""
