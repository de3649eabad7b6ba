"""Services as processes with a life: started, watched, restarted, ended.

`reconciler` turns what is wanted and what is so into a plan, and gives each `runner` its share; a
runner is the only writer of its service's state. The rest is told of it: `telling` and `outcomes`
write what happened, `waiting` waits for it.
"""
