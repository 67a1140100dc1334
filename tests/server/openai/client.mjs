// What users of the official OpenAI client see of our server. ../openai_test.py starts the server that a part of this
// is about, and says where it is.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import OpenAI from 'openai';
import { ChatCompletionStream } from 'openai/lib/ChatCompletionStream';

const { CAKE_URL, CAKE_PID, CAKE_KEY } = process.env;
const MODEL = 'cake-mini';
const HELLO = [{ role: 'user', content: 'Tell me of the sea.' }];
// Nothing ends it before its tokens are used up.
const ENDLESS = { model: MODEL, messages: HELLO, temperature: 0, ignore_eos: true, max_completion_tokens: 3000 };

const connect = (options = {}) =>
  new OpenAI({ baseURL: `${CAKE_URL}v1`, apiKey: CAKE_KEY ?? 'none', maxRetries: 0, logLevel: 'off', ...options });
const client = connect();

/** The answer of a chat at temperature 0, of 24 tokens where nothing else is said. */
const chat = (fields = {}, options = {}) =>
  client.chat.completions.create(
    { model: MODEL, messages: HELLO, temperature: 0, max_completion_tokens: 24, ...fields }, options);
const complete = (fields = {}, options = {}) =>
  client.completions.create({ model: MODEL, prompt: 'The sea', temperature: 0, max_tokens: 24, ...fields }, options);
const textOf = (completion, i = 0) => completion.choices[i].message.content;

async function all(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

/** What the chunks of a stream say for one of its choices. */
const said = (chunks, i = 0) =>
  chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.index === i)
    .map((choice) => choice.delta?.content ?? choice.text ?? '').join('');

async function metric(name) {
  const text = await (await fetch(`${CAKE_URL}metrics`)).text();
  return Number(text.match(new RegExp(`^${name} (.*)$`, 'm'))[1]);
}

async function until(condition, what) {
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(20)) if (await condition()) return;
  assert.fail(`waited for 20 s in vain: ${what}`);
}
const untilGenerating = (n) =>
  until(async () => (await metric('cake_requests_generating')) === n, `cake_requests_generating ${n}`);
const untilIdle = () =>
  until(async () => (await metric('cake_requests_generating')) + (await metric('cake_requests_reading')) +
    (await metric('cake_requests_waiting')) === 0, 'no request is left');

/** What is wrong with a value by a JSON schema, of the keywords that these tests use; empty where nothing is. */
function wrongs(schema, value, at = '$') {
  const type = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
  const fits = (t) => t === type || (t === 'integer' && Number.isInteger(value));
  const found = [];
  const check = (good, what) => good || found.push(`${at}: ${JSON.stringify(value)} is against ${what}`);
  if (schema.$ref) return wrongs(schema.root ?? ROOTS.get(schema), value, at);
  if (schema.anyOf) check(schema.anyOf.some((other) => wrongs(other, value, at).length === 0), 'anyOf');
  if (schema.type) check([schema.type].flat().some(fits), `type ${schema.type}`);
  if (schema.enum) check(schema.enum.includes(value), `enum ${schema.enum}`);
  if ('const' in schema) check(schema.const === value, `const ${schema.const}`);
  if (type === 'number') check(value >= (schema.minimum ?? -Infinity) && value <= (schema.maximum ?? Infinity), 'bounds');
  if (type === 'string') {
    const length = [...value].length;
    check(length >= (schema.minLength ?? 0) && length <= (schema.maxLength ?? Infinity), 'lengths');
    if (schema.format === 'date') check(!Number.isNaN(Date.parse(value)) && value.length === 10, 'format date');
  }
  if (type === 'array') {
    check(value.length >= (schema.minItems ?? 0) && value.length <= (schema.maxItems ?? Infinity), 'numbers of items');
    value.forEach((item, i) => found.push(...wrongs(schema.items ?? {}, item, `${at}[${i}]`)));
  }
  if (type === 'object') {
    for (const name of schema.required ?? []) check(Object.hasOwn(value, name), `required ${name}`);
    for (const [name, field] of Object.entries(value)) {
      const known = Object.hasOwn(schema.properties ?? {}, name);
      if (known) found.push(...wrongs(schema.properties[name], field, `${at}.${name}`));
      else check(schema.additionalProperties !== false, `additionalProperties (${name})`);
    }
  }
  return found;
}

const object = (properties, required = Object.keys(properties)) =>
  ({ type: 'object', properties, required, additionalProperties: false });
const word = { type: 'string', minLength: 1, maxLength: 12 };
const SCHEMAS = {
  'a flat object': object({ name: word, age: { type: 'integer', minimum: 0, maximum: 150 }, tall: { type: 'boolean' } }),
  'nested objects and arrays': object({
    captain: object({ name: word, ship: object({ name: word, masts: { type: 'integer', minimum: 1, maximum: 5 } }) }),
    crew: { type: 'array', minItems: 2, maxItems: 3, items: object({ name: word, nothing: { type: 'null' } }) },
  }),
  'an enum': object({
    colour: { type: 'string', enum: ['red', 'sea green', 'žlutá', 'a "quoted" one'] },
    size: { enum: [1, 2.5, null, true, 'large'] },
    kind: { const: 'fish' },
  }),
  'optional properties': object({ id: { type: 'integer' }, note: word, count: { type: 'integer' } }, ['id']),
  'one of several types': object({
    price: { type: ['number', 'null'] },
    owner: { anyOf: [object({ person: word }), object({ company: word, seats: { type: 'integer' } })] },
  }),
  'a date': object({ day: { type: 'string', format: 'date' } }),
  'an array': { type: 'array', minItems: 1, maxItems: 4, items: { type: 'number', minimum: -1, maximum: 10 } },
};
const format = (schema) => ({ type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } });

/** The error that a call ends with, of the class that is expected. */
async function failure(call, kind) {
  const error = await call.then(() => assert.fail('it succeeded'), (error) => error);
  assert.ok(error instanceof kind, `${error?.constructor?.name}: ${error?.message}`);
  return error;
}
