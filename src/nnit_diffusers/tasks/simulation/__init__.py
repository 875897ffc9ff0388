"""Tasks in simulators: what ManiSkill and Gymnasium share. No simulator is imported here."""
