// Talking to the server this page came from.

// What the server refused, in its own words; `status` 0 when it could not be reached.
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// The file's name and the state of its model; throws when nobody answers.
export async function state() {
  const answer = await fetch("/app.json", { cache: "no-store", signal: AbortSignal.timeout(4000) });
  if (!answer.ok) throw new ServerError(answer.statusText, answer.status);
  return answer.json();
}

// Answers a conversation: yields {text} for each piece, then {finish, timings}.
export async function* chat(messages, signal) {
  const answer = await post({ messages, stream: true }, signal);
  for await (const event of events(answer.body, signal)) {
    if (event.error) throw new ServerError(event.error.message, answer.status);
    const choice = event.choices?.[0];
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (choice?.finish_reason) yield { finish: choice.finish_reason, timings: event.timings };
  }
}

async function post(body, signal) {
  let answer;
  try {
    answer = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
  } catch (error) {
    throw signal.aborted ? error : new ServerError("The server does not answer.", 0);
  }
  if (answer.ok) return answer;
  const document = await answer.json().catch(() => ({}));
  throw new ServerError(document.error?.message ?? `The server said ${answer.status}.`, answer.status);
}

// The JSON documents of a server-sent event stream, up to [DONE].
async function* events(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw signal.aborted ? error : new ServerError("The connection to the server broke.", 0);
      });
      if (done) throw new ServerError("The server ended the answer too early.", 0);
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        if (!part.startsWith("data: ")) continue;
        const data = part.slice(6);
        if (data === "[DONE]") return;
        yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
