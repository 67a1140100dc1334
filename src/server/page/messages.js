// The turns of a conversation as the messages of a request.

// The documents come first and the question last, because the last tokens of a prompt decide what cake keeps.
const content = ({ text, documents = [] }) => [...documents.map((d) => d.text), text].filter((t) => t !== "").join("\n\n");

const message = (turn) => {
  if (turn.role === "tool") return { role: "tool", tool_call_id: turn.call.id, content: turn.text };
  const written = { role: turn.role, content: content(turn) };
  if (turn.reasoning) written.reasoning_content = turn.reasoning;
  if (turn.calls?.length > 0) {
    written.tool_calls = turn.calls.map(({ id, name, arguments: given }) =>
      ({ id, type: "function", function: { name, arguments: given } }));
  }
  return written;
};

// If an answer failed, its question is joined with the next one, because models expect the roles to alternate.
export const messages = (turns) => {
  const list = [];
  for (const turn of turns) {
    const next = message(turn), last = list.at(-1);
    if (turn.role !== "tool" && next.content === "" && !next.tool_calls) continue;
    if (turn.role === "user" && last?.role === "user") last.content += `\n\n${next.content}`;
    else list.push(next);
  }
  return list;
};
