"""Makes every key in Redis, also those of RQ's that the service uses itself.

``<job>`` is ``<owner>:<id>``, and ``<entry>`` is ``<owner>_<id>_<attempts before>``, or ``ms_jobs.queue.cutout_entry``::

    msd:job:<job>           hash    the job's record, each field a JSON text
    msd:events:<job>        stream  one entry for each transition; its id is the version that the transition made
    msd:progress:<job>      stream  progress and previews, the newest few; gone when the job has ended
    msd:preview:<job>       string  the newest preview; gone when the job has ended
    msd:gone:<job>          string  why the record was erased, for seven days
    msd:jobs:<owner>        zset    ids of all records by their time of creation
    msd:key:<owner>:<key>   string  id of the job of an idempotency key
    msd:twins:<owner>:<digest>  zset  jobs of a request to OpenAI's interface by when the last connection ended; infinite while
                                    one waits; expires
    msd:active:<model>      set     jobs that have not ended
    msd:due:<model>         zset    jobs by their next deadline
    msd:running:<model>     set     jobs that a worker runs
    msd:taken:<model>       zset    jobs that a worker is about to run, by when it must have begun; only with a limit of jobs at once
    msd:counts:<model>      hash    how often each event happened
    msd:histograms:<model>  hash    counts of durations by bucket, and their sum
    msd:spent:<model>:<owner>  hash  picture-steps by the quarter of an hour in which they were charged; expires
    msd:pace:<model>        list    the newest jobs: shape and running seconds; expires when no job succeeds for 30 days
    msd:worker:<name>       string  JSON of a worker's record; expires when the worker stops beating
    msd:workers:<model>     set     names of the workers of a model
    msd:card:<model>        string  JSON of the model's card
    msd:housekeeper:<model> string  holder of the housekeeper's lease
    msd:api-key:<digest>    string  JSON of an API key, by the SHA-256 of its text
    msd:api-keys            hash    digests of all API keys by their names
    msd:session:<digest>    string  digest of the API key of a browser's session, by the SHA-256 of its token; expires
    msd:signing-secret      string  what signed addresses are signed with
    msd:guesses:<address>   string  how many wrong keys came from an address; expires
    msd:rate:...            string  how many jobs an owner sent, as the library ``limits`` counts; expires
    rq:suspended            string  RQ: workers take no jobs, since somebody ran ``rq suspend``
    rq:queue:<queue>        list    RQ: entries of a queue
    rq:queue:<queue>:intermediate  list  RQ: entries that a worker has taken and not begun
    rq:job:<entry>          hash    RQ: what an entry calls
    rq:executions:<entry>   zset    RQ: executions of an entry
    rq:execution:<entry>:<execution>  hash  RQ: one of them

One exception: the scripts in ``ms_jobs/lua`` get the key of the job's hash and make all other keys themselves, since only
the hash names the job's model. A test compares them with the names made here. They also delete ``msd:nothing``, which never
exists.
"""

from __future__ import annotations

from typing import NamedTuple, Self

RQ_JOB_PREFIX = "rq:job:"
RQ_SUSPENDED = "rq:suspended"
# What stands before the keys of the library ``limits``.
RATE = "msd:rate"
# Never exist: see ``ms_jobs.probe``.
NOTHING = "msd:nothing"
RQ_NOTHING = "rq:nothing"


class JobKey(NamedTuple):
    """Owner and id of a job."""

    owner: str
    id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``<owner>:<id>``."""
        owner, _, job_id = text.partition(":")
        return cls(owner, job_id)

    @classmethod
    def of_entry(cls, entry: str) -> Self:
        """Get the job of an entry in the queue."""
        owner, _, rest = entry.partition("_")
        return cls(owner, rest.rpartition("_")[0])

    def entry(self, attempt: int) -> str:
        """Make RQ's id of the job's entry after so many attempts."""
        return f"{self.owner}_{self.id}_{attempt}"

    def __str__(self) -> str:
        return f"{self.owner}:{self.id}"


def job(key: JobKey) -> str:
    """Hash of a job's record."""
    return f"msd:job:{key}"


def events(key: JobKey) -> str:
    """Stream of a job's transitions."""
    return f"msd:events:{key}"


def progress(key: JobKey) -> str:
    """Stream of a job's progress."""
    return f"msd:progress:{key}"


def preview(key: JobKey) -> str:
    """A job's newest preview."""
    return f"msd:preview:{key}"


def gone(key: JobKey) -> str:
    """Mark of a job whose record was erased."""
    return f"msd:gone:{key}"


def jobs(owner: str) -> str:
    """Ids of an owner's jobs."""
    return f"msd:jobs:{owner}"


def idempotency(owner: str, idempotency_key: str) -> str:
    """Id of the job of an idempotency key."""
    return f"msd:key:{owner}:{idempotency_key}"


def twins(owner: str, digest: str) -> str:
    """Jobs of equal requests."""
    return f"msd:twins:{owner}:{digest}"


def active(model: str) -> str:
    """Jobs of a model that have not ended."""
    return f"msd:active:{model}"


def due(model: str) -> str:
    """Jobs of a model by their next deadline."""
    return f"msd:due:{model}"


def running(model: str) -> str:
    """Jobs of a model that a worker runs."""
    return f"msd:running:{model}"


def taken(model: str) -> str:
    """Jobs of a model that a worker is about to run."""
    return f"msd:taken:{model}"


def counts(model: str) -> str:
    """Counts of the events of a model's jobs."""
    return f"msd:counts:{model}"


def histograms(model: str) -> str:
    """Durations of a model's jobs."""
    return f"msd:histograms:{model}"


def spent(model: str, owner: str) -> str:
    """Picture-steps that an owner was charged for."""
    return f"msd:spent:{model}:{owner}"


def pace(model: str) -> str:
    """Durations of a model's newest jobs, by shape."""
    return f"msd:pace:{model}"


def worker(name: str) -> str:
    """A worker's record."""
    return f"msd:worker:{name}"


def workers(model: str) -> str:
    """Names of a model's workers."""
    return f"msd:workers:{model}"


def card(model: str) -> str:
    """A model's card."""
    return f"msd:card:{model}"


def housekeeper(model: str) -> str:
    """Lease of a model's housekeeper."""
    return f"msd:housekeeper:{model}"


def api_key(digest: str) -> str:
    """An API key's record."""
    return f"msd:api-key:{digest}"


def api_keys() -> str:
    """Digests of all API keys by their names."""
    return "msd:api-keys"


def session(digest: str) -> str:
    """The API key of a session."""
    return f"msd:session:{digest}"


def signing_secret() -> str:
    """Secret of signed addresses."""
    return "msd:signing-secret"


def guesses(address: str) -> str:
    """Number of wrong keys from an address."""
    return f"msd:guesses:{address}"


def queue_name(model: str) -> str:
    """RQ's name of the queue that all workers of a model share."""
    return f"generate-{model}"


def queue(model: str) -> str:
    """RQ's list of the entries of a model's queue."""
    return f"rq:queue:{queue_name(model)}"


def rq_taken(model: str) -> str:
    """RQ's list of the entries of a model's queue that a worker has taken."""
    return f"{queue(model)}:intermediate"


def rq_job(entry: str) -> str:
    """RQ's hash of an entry."""
    return f"{RQ_JOB_PREFIX}{entry}"


def rq_executions(entry: str) -> str:
    """RQ's list of an entry's executions."""
    return f"rq:executions:{entry}"


def rq_execution(entry: str, execution: str) -> str:
    """RQ's hash of one execution of an entry."""
    return f"rq:execution:{entry}:{execution}"
