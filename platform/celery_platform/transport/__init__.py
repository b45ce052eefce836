"""
Our Redis transport: stock kombu on the wire, a lease for every message.

The parts, from the ground up: `keys` (every key), `lua/` and `scripts` (what is atomic), `envelope` (the message),
`holdings` (the books of one consumer), `intake` (what a fetch brought), `line` (fetching and waiting on one
connection), `heart` (renewal), `succession` (the messages of the dead), `consumer` (all of it together), `delayed`,
`casualties`; and for kombu `qos`, `channel`, `poller`, `redis`.
"""
