"""How Kafka is read: records of many partitions, within bounds of memory and time, whatever anybody has written.

`feed.Feed` reads partitions that it is told, `member.Member` those that a group gives it. Nothing here knows what records mean. Nothing is imported here, so that the words in `records` cost
nothing.
"""
