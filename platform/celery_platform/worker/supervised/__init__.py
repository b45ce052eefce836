"""
The default worker on Redis: a parent that supervises, and children that fetch for themselves.

Both sides share `slate` (what a child is doing, in shared memory) and `wire` (what one tells the other).

In the parent: `pool` is what Celery sees, `supervisor` keeps the children alive, `overseer` holds them to time limits
and gives back what a busy one has not started, `census` tells remote control of their calls, `served_queues` says from
where they fetch. In a child: `child` is its life, `loop` fetches, runs and settles, `pace` sizes the batches,
`stock_path` runs a call with Celery's own code.
"""
