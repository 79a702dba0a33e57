import { signal } from "@preact/signals";

/** Where the service is: the page lies at its root, perhaps below a proxy's path. */
export const SERVICE = new URL(".", location.href).href.replace(/\/$/, "");

/** How often somebody signed in since the page was opened. */
export const signedIn = signal(0);

/** An address that the service gave, relative to its own. It changes when somebody signs in, so that a picture that was refused is loaded again. */
export const addressOf = (url: string): string => (url.startsWith("/") ? SERVICE + url + (signedIn.value > 0 ? `#${signedIn.value}` : "") : url);
