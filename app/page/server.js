// Requests to the server, and messages about what went wrong.

export class Refused extends Error {
  constructor(message, retryAfter = 0) {
    super(message);
    this.retryAfter = retryAfter; // seconds, if the server says when to retry
  }
}

// The response was aborted: what has arrived is not a complete picture.
export class Broken extends Error {}

// Sends the key typed in before; if the service wants one (or another), asks for it, once per request.
export async function ask(path, options = {}) {
  const sent = sessionStorage.getItem(KEY);
  let answer = await send(path, options, sent);
  if (answer.status === 401 && keyInsteadOf(sent)) answer = await send(path, options, sessionStorage.getItem(KEY));
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

const KEY = "enlarger-key"; // while the tab is open

function keyInsteadOf(sent) {
  if (sessionStorage.getItem(KEY) === sent) { // otherwise another request has asked meanwhile
    const typed = prompt(sent ? "That key was not accepted. Try another one:" : "This service needs a key:");
    typed ? sessionStorage.setItem(KEY, typed.trim()) : sessionStorage.removeItem(KEY);
  }
  return sessionStorage.getItem(KEY);
}

async function send(path, options, key) {
  const headers = new Headers(options.headers);
  const invitation = new URLSearchParams(location.search).get("invitation"); // of the study's link
  if (key) headers.set("X-API-Key", key);
  if (invitation) headers.set("X-Invitation", invitation);
  try {
    return await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server cannot be reached, or it closed the connection. Is it still running?");
  }
}

async function refusal(answer) {
  const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  let detail = "";
  try {
    detail = (await answer.json()).detail;
  } catch {
    // Not a problem document: a proxy in front of the service has answered.
  }
  return new Refused(detail || `The server answered ${answer.status} ${answer.statusText}`.trim() + ".", retryAfter);
}

export async function* pieces(answer) {
  const reader = answer.body.getReader();
  const next = () => reader.read().catch((error) => {
    throw error.name === "AbortError" ? error : new Broken(error.message);
  });
  for (let part = await next(); !part.done; part = await next()) yield part.value;
}

// Counts the seconds down; rejects with an AbortError when the signal aborts.
export async function countDown(seconds, signal, tell) {
  const stopped = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
  for (let left = Math.ceil(seconds); left > 0; left--) {
    tell(left);
    await Promise.race([stopped, new Promise((resolve) => setTimeout(resolve, 1000))]);
  }
}
