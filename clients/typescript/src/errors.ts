import type { JobResource, Problem, ProblemItem } from "./generated/types.gen.js";

/** What an `MsdError` is made of. */
export interface Failure {
  status: number;
  code: string;
  detail: string;
  errors?: ProblemItem[];
  requestId?: string;
  job?: JobResource;
  cause?: unknown;
}

/** Everything that can go wrong, except an aborted signal, whose reason is thrown as it is. */
export class MsdError extends Error {
  override readonly name = "MsdError";
  /** HTTP status, of the answer or of the kind of problem; 0 if no answer came. */
  readonly status: number;
  /** Stable code of the problem, as the service lists them; `connection_lost`, `http_error` and `unreadable_picture` are the client's. */
  readonly code: string;
  /** What is wrong and what to do, in a sentence or two. */
  readonly detail: string;
  /** All errors in the request, each with the JSON pointer of the value. */
  readonly errors: ProblemItem[];
  /** Id under which the service logged the request. */
  readonly requestId: string | undefined;
  /** The job, if one was made and ended without pictures. */
  readonly job: JobResource | undefined;

  constructor({ status, code, detail, errors = [], requestId, job, cause }: Failure) {
    super(detail, { cause });
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.errors = errors;
    this.requestId = requestId;
    this.job = job;
  }

  /** The same error, found at `pointer` of a request that this one was sent for. */
  at(pointer: string): MsdError {
    const { detail, code } = this.errors[0] ?? this;
    return new MsdError({ ...this, errors: [{ pointer, detail, code }], cause: this });
  }
}

/** The error of an answer; `body` is a problem, or whatever a proxy wrote. */
export function errorOf(response: Response, body: unknown): MsdError {
  const problem: Partial<Problem> = typeof body === "object" && body !== null ? body : {};
  const { status, headers } = response;
  return new MsdError({
    status,
    code: problem.code ?? "http_error",
    detail: problem.detail ?? `The service answered ${status} ${response.statusText}`.trimEnd(),
    errors: problem.errors,
    requestId: problem.request_id ?? headers.get("X-Request-Id") ?? undefined,
  });
}

/** The error of a job that ended without pictures. */
export function errorOfJob(job: JobResource): MsdError {
  const { status, code, detail } = job.error ?? { status: 409, code: job.status, detail: "The job was canceled." };
  return new MsdError({ status, code, detail, job });
}

/** No answer came, or it broke off. */
export function connectionLost(cause: unknown): MsdError {
  return new MsdError({ status: 0, code: "connection_lost", detail: "The service cannot be reached.", cause });
}
