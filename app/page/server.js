// Asking the server, and saying in words what went wrong.

export class Refused extends Error {
  constructor(message, retryAfter = 0) {
    super(message);
    this.retryAfter = retryAfter; // seconds, where the server says when to come back
  }
}

// The answer began and did not end as it should: what has come is no whole picture.
export class Broken extends Error {}

// With the key that was typed in before; where the service wants one (or another), it is asked for, once a question.
export async function ask(path, options = {}) {
  const sent = sessionStorage.getItem(KEY);
  let answer = await send(path, options, sent);
  if (answer.status === 401 && keyInsteadOf(sent)) answer = await send(path, options, sessionStorage.getItem(KEY));
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

const KEY = "enlarger-key"; // for as long as the tab is open

function keyInsteadOf(sent) {
  if (sessionStorage.getItem(KEY) === sent) { // else another question has asked meanwhile
    const typed = prompt(sent ? "That key was not accepted. Another one:" : "This service asks for a key:");
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
    // Not a problem document: a proxy between here and the service has answered.
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

// Counts the seconds down; rejects with an AbortError when the signal says so.
export async function countDown(seconds, signal, tell) {
  const stopped = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
  for (let left = Math.ceil(seconds); left > 0; left--) {
    tell(left);
    await Promise.race([stopped, new Promise((resolve) => setTimeout(resolve, 1000))]);
  }
}
