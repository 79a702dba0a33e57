"""Worker processes: each takes jobs from the queue and makes their pictures on one device."""

# Before torch: says how its threads wait.
import ms_core as ms_core
