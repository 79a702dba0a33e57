import type { MsdError } from "msd-client";

const MOST_QUOTED = 60;
const MOST_NAMED = 5;
/** Refused for what they are: by this service, or by whatever stands before it. */
const TOO_LARGE = 413;
const REQUEST_TIMEOUT = 408;
/** With this key. */
const FORBIDDEN = 403;
const TOO_MANY = 429;

/** A sentence in which only the first words of long quotations stand. */
export const shortened = (sentence: string): string =>
  sentence.replace(/"([^"]*)"(?: and \d+ more characters)?/g, (whole, words: string) => {
    const characters = [...words];
    return characters.length > MOST_QUOTED ? `"${characters.slice(0, MOST_QUOTED).join("").trimEnd()} …"` : whole;
  });

/** What a key lacks, and what to do. */
export const deniedWords = (detail: string): string => `${detail} Sign out, and in again with a key that may.`;

/** Why a key is refused, and in how many seconds another attempt may be made. */
export interface RefusedKey {
  words: string;
  seconds: number;
}

/** What the service says of a key; `retryAfter` is the header of that name. */
export function refusalOfKey(status: number, problem: unknown, retryAfter: string | null): RefusedKey {
  const { detail } = (problem ?? {}) as { detail?: string };
  const seconds = status === TOO_MANY ? Math.max(1, Math.ceil(Number(retryAfter)) || 1) : 0;
  if (status === 0 || detail === undefined) return { words: status === 0 ? "The service cannot be reached." : `The service answered ${status}.`, seconds };
  return { words: seconds > 0 ? `${detail} That is in ${seconds} ${seconds === 1 ? "second" : "seconds"}.` : detail, seconds };
}

type Refusal = Pick<MsdError, "status" | "code" | "detail" | "errors">;

/** Why a picture is not on the service, in a sentence or two. */
export function whyNotSent({ status, code, detail, errors }: Refusal): string {
  if (status === 0) return "This picture was not sent: the service cannot be reached.";
  if (status === TOO_LARGE && errors.length === 0) return `This file is too large to be sent. ${code === "http_error" ? "Use a smaller one." : detail}`;
  if (status === FORBIDDEN) return detail;
  if (mayBeSentAgain({ status })) return `The service could not take this picture now. ${detail}`;
  return errors[0]?.detail ?? detail;
}

/** Whether the same picture may be taken another time. */
export const mayBeSentAgain = ({ status }: Pick<Refusal, "status">): boolean => status < 400 || status >= 500 || [FORBIDDEN, REQUEST_TIMEOUT, TOO_MANY].includes(status);

/** Whether sending it again at once may help: another key is needed where this one may not. */
export const sendingAgainHelps = (refusal: Pick<Refusal, "status">): boolean => mayBeSentAgain(refusal) && refusal.status !== FORBIDDEN;

/** What a card says of pictures of the last visit that are not on the service; `wereThere`: they once were. */
export function missingWords(count: number, wereThere: boolean): { words: string; remedy: string } {
  const which = count === 1 ? "This picture" : `${count} pictures`;
  if (!wereThere) return { words: `The service did not take ${which.toLowerCase()}.`, remedy: `Choose ${count === 1 ? "another" : "others"}` };
  return { words: `${which} ${count === 1 ? "is" : "are"} not on the service any more.`, remedy: `Add ${count === 1 ? "it" : "them"} again` };
}

/** What of a request could not be shown, as a sentence that follows another; nothing if all of it could. */
export function leftOutWords(names: string[]): string {
  if (names.length === 0) return "";
  const more = names.length - MOST_NAMED;
  return ` Left out: ${names.slice(0, MOST_NAMED).join(", ")}${more > 0 ? ` and ${more} more` : ""}.`;
}
