"""Orders backed up to Upstash Redis: is the set-up right, what is in the backup,
how to get it out and in. The database is the one that UPSTASH_REDIS_REST_URL
and UPSTASH_REDIS_REST_TOKEN name; the app's UPSTASH_STATE_* settings count
here, too.

examples:
  upstash-state doctor
  upstash-state list --status new
  upstash-state export orders.jsonl.gz

exit status: 0 fine, 1 something is wrong, 2 usage
"""
