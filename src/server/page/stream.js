// Adds the parts of a streamed answer to its turn.

// Returns whether the delta had text or calls.
export const addDelta = (turn, { reasoning_content: reasoning = "", content = "", tool_calls: calls = [] }) => {
  turn.reasoning = (turn.reasoning ?? "") + (reasoning ?? "");
  turn.text += content ?? "";
  for (const { index, id, function: { name, arguments: given = "" } = {} } of calls ?? []) {
    turn.calls ??= [];
    turn.calls[index] ??= { id, name, arguments: "" };
    turn.calls[index].arguments += given;
  }
  return Boolean(reasoning || content || calls?.length > 0);
};

export const isReasoning = (turn) => Boolean(turn.reasoning) && turn.text === "" && !turn.calls;

// Describes why an answer ended, if that is not obvious.
export const noteOf = (turn, reason) => {
  if (reason === "length") return "The answer stops here because it reached its longest length.";
  if (turn.calls || turn.text !== "") return undefined;
  return turn.reasoning ? "The answer has ended after the reasoning." : "The answer is empty.";
};
