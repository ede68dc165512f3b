/** An address to fetch from: a login in it goes into a header, and is never shown. */
import * as querystring from "node:querystring";
import { MillpondError } from "../../errors.js";

export interface Address {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Throws `MillpondError("USAGE")`, without the text: it may hold a secret.
 *
 * @example addressOf("https://prometheus:secret@example.com/metrics", "--metrics").url.host;
 */
export function addressOf(text: string, what: string): Address {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new MillpondError("USAGE", `${what} is no address: expected http://… or https://…`);
  }
  const { username, password } = url;
  if (username === "" && password === "") return { url, headers: {} };
  // `fetch` refuses an address with a login.
  url.username = "";
  url.password = "";
  const login = [username, password].map((part) => querystring.unescape(part)).join(":");
  const authorization = `Basic ${Buffer.from(login).toString("base64")}`;
  return { url, headers: { authorization } };
}
