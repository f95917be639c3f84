/**
 * Every error that the client throws, and what to do about it.
 *
 *     CrossfadeError
 *     +-- UnreachableError          no connection
 *     +-- NoAnswerError             no answer
 *     +-- UnexpectedAnswerError     an answer that is not Crossfade's
 *     +-- NotSentError              left out of a batch after an earlier failure
 *     +-- ProblemError              an error answer (RFC 9457)
 *     |   +-- InvalidRequestError   400, 405, 411, 414, 415, 421, 422, 431
 *     |   |   +-- TooLargeError     413
 *     |   |   +-- KeyConflictError  422, the key stands for another body
 *     |   +-- UnauthenticatedError  401
 *     |   +-- ForbiddenError        403
 *     |   +-- NotFoundError         404
 *     |   +-- ConflictError         409
 *     |   +-- UnavailableError      408, 425, 429, 502 to 504, 520 to 524
 *     |   |   +-- OutcomeUnknownError
 *     |   +-- ServiceError          500 and what else the service says of itself
 *     +-- WaitTimeoutError          not persisted in time
 *     +-- DeadLetteredError         not persisted, and given up
 */
import type { Message, State } from "./models.js";

/** One thing wrong with one field, as the service says it. */
export interface FieldError {
  /** The field's path, such as `recipientIds[3]`. */
  field: string;
  message: string;
  remedy: string;
}

/** Anything the client throws about the service. */
export class CrossfadeError extends Error {
  /** What to do. */
  remedy = "";
  /** The number of requests that were made. */
  attempts = 0;
  /**
   * Of a message or a receipt: whether the service may have accepted it although this was thrown.
   * Send the same `NewMessage` again; its key makes sure that it is stored once.
   */
  maybeAccepted = false;

  override get name(): string {
    return this.constructor.name;
  }
}

/** No connection to the service could be made. Nothing was sent. */
export class UnreachableError extends CrossfadeError {
  override remedy = "Check the base URL, that the service runs, and for https its certificate.";
}

/**
 * No whole answer came in time. The request may have arrived. (A browser does not tell this from
 * a service that can't be reached.)
 */
export class NoAnswerError extends CrossfadeError {
  override remedy = "Send the same message again, with the same key; allow more with `timeoutMs`.";
}

/** The answer is not one of Crossfade's API. Something else answered. */
export class UnexpectedAnswerError extends CrossfadeError {
  override remedy = "Check the base URL, and proxies or login pages in between.";

  constructor(
    readonly detail: string,
    readonly status: number,
    options?: ErrorOptions,
  ) {
    super(`HTTP ${status}: ${detail}`, options);
  }
}

/** The message was left out: messages before it in the batch could not be sent. */
export class NotSentError extends CrossfadeError {
  override remedy = "Fix the error in `cause`, and send these messages again.";
}

/** The members of a problem document (RFC 9457), and the service's own. */
export interface ProblemFields {
  status: number;
  title: string;
  detail: string;
  type?: string | undefined;
  fields?: readonly FieldError[] | undefined;
  correlationId?: string | undefined;
  retryAfterMs?: number | undefined;
}

/**
 * The service answered with an error.
 *
 * An error answer without a problem document, which a proxy may give, has the type `about:blank`.
 */
export class ProblemError extends CrossfadeError {
  static readonly usualRemedy: string = "See the page that `type` points to.";
  readonly status: number;
  /** A URI reference of the service: its page says what it means. */
  readonly type: string;
  readonly title: string;
  readonly detail: string;
  /** What is wrong with which field. */
  readonly fields: readonly FieldError[];
  /** What the service's logs have of this request. */
  readonly correlationId: string | undefined;
  /** Milliseconds that the service asked to wait. */
  readonly retryAfterMs: number | undefined;

  constructor(problem: ProblemFields) {
    super(line(problem));
    this.status = problem.status;
    this.type = problem.type ?? "about:blank";
    this.title = problem.title;
    this.detail = problem.detail;
    this.fields = problem.fields ?? [];
    this.correlationId = problem.correlationId;
    this.retryAfterMs = problem.retryAfterMs;
    const usual = (this.constructor as typeof ProblemError).usualRemedy;
    this.remedy = this.fields.map((one) => one.remedy).join(" ") || usual;
  }

  /** The path of the first faulty field, if the problem names one. */
  get field(): string | undefined {
    return this.fields[0]?.field;
  }
}

/** The service can't accept this request, however often it is sent. */
export class InvalidRequestError extends ProblemError {
  static override readonly usualRemedy: string = "Change what `detail` names.";
}

/** The message is larger than the service, or a proxy in front, takes. */
export class TooLargeError extends InvalidRequestError {
  static override readonly usualRemedy = "Keep large contents elsewhere, and send a reference.";
}

/** The key was used before, by this sender in this conversation, for another body. */
export class KeyConflictError extends InvalidRequestError {
  static override readonly usualRemedy = "Give a new message a clientMessageId of its own.";
}

/** The service wants an API key and got none that it knows. */
export class UnauthenticatedError extends ProblemError {
  static override readonly usualRemedy =
    "Give apiKey, or set CROSSFADE_API_KEY, to a key made by 'crossfade keys new'.";
}

/** The API key may not do this. */
export class ForbiddenError extends ProblemError {
  static override readonly usualRemedy =
    "Use a key that has the scope, or the prefix, that `detail` names.";
}

/** There is no such message. */
export class NotFoundError extends ProblemError {
  static override readonly usualRemedy = "Check the id, and the base URL.";
}

/** The state of the message does not allow this, such as a receipt for a dead letter. */
export class ConflictError extends ProblemError {
  static override readonly usualRemedy = "`detail` says what would change its state.";
}

/** The service could not take the request for now; retries did not help until the deadline. */
export class UnavailableError extends ProblemError {
  static override readonly usualRemedy: string =
    "Send the same message again later, with the same key.";
}

/** The service can't tell whether it accepted the message. */
export class OutcomeUnknownError extends UnavailableError {
  static override readonly usualRemedy =
    "Send the same message again, with the same key. A new key could double it.";
}

/** The service made a mistake. */
export class ServiceError extends ProblemError {
  static override readonly usualRemedy =
    "Report the correlation id to the operator. Send again with the same key.";
}

/** The message was not persisted within the time given to `wait`. It is safe in the log. */
export class WaitTimeoutError extends CrossfadeError {
  override remedy = "Wait again. If it stays pending, look at the workers ('crossfade status').";

  constructor(
    readonly messageId: string,
    /** The last one seen; `undefined` where the service did not find it or could not be asked. */
    readonly state: State | undefined,
    milliseconds: number,
    options?: ErrorOptions,
  ) {
    const seen = state ? `it is ${state}` : "its state is not known";
    super(`message ${messageId} was not persisted within ${milliseconds} ms; ${seen}`, options);
  }
}

/** The message could not be persisted and is a dead letter. */
export class DeadLetteredError extends CrossfadeError {
  override remedy = "Fix the cause, then redrive it ('crossfade dlq redrive').";

  constructor(readonly deadLettered: Message) {
    const letter = deadLettered.deadLetter;
    const why = letter ? ` (${letter.reason}: ${letter.error})` : "";
    super(`message ${deadLettered.messageId} is a dead letter${why}`);
  }
}

type ProblemClass = new (problem: ProblemFields) => ProblemError;

const BY_NAME: ReadonlyMap<string, ProblemClass> = new Map<string, ProblemClass>([
  ["idempotency-conflict", KeyConflictError],
  ["outcome-unknown", OutcomeUnknownError],
]);
const BY_STATUS: ReadonlyMap<number, ProblemClass> = new Map<number, ProblemClass>([
  [401, UnauthenticatedError],
  [403, ForbiddenError],
  [404, NotFoundError],
  [408, UnavailableError],
  [409, ConflictError],
  [413, TooLargeError],
  [425, UnavailableError],
  [429, UnavailableError],
  [502, UnavailableError],
  [503, UnavailableError],
  [504, UnavailableError],
  // Cloudflare's.
  [520, UnavailableError],
  [521, UnavailableError],
  [522, UnavailableError],
  [523, UnavailableError],
  [524, UnavailableError],
]);

/** Return the error for a problem, by the last part of its type's URI and by its status. */
export function problemError(problem: ProblemFields): ProblemError {
  const name = (problem.type ?? "").split("/").at(-1) ?? "";
  const usual = problem.status >= 500 ? ServiceError : InvalidRequestError;
  return new (BY_NAME.get(name) ?? BY_STATUS.get(problem.status) ?? usual)(problem);
}

function line({ status, title, detail, fields }: ProblemFields): string {
  const text = `HTTP ${status}: ${title}`;
  if (fields?.length) {
    return `${text}: ${fields.map((one) => `${one.field} ${one.message}`).join("; ")}`;
  }
  return detail ? `${text}: ${detail}` : text;
}
