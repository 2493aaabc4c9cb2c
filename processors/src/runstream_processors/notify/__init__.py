"""The notifier: alerts from the topic to people."""
