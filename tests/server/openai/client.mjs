// What users of the official OpenAI client see of our server. ../openai_test.py starts the server that a part of this
// is about, and says where it is.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import OpenAI from 'openai';
import { LengthFinishReasonError } from 'openai/core/error';
import { ChatCompletionStream } from 'openai/lib/ChatCompletionStream';

const { CAKE_PART, CAKE_URL, CAKE_PID, CAKE_KEY } = process.env;
const MODEL = 'cake-mini';
const HELLO = [{ role: 'user', content: 'Tell me of the sea.' }];
// Nothing ends it soon.
const ENDLESS = { model: MODEL, messages: HELLO, temperature: 0, ignore_eos: true, max_completion_tokens: 60_000 };
// Takes long to read.
const LONG = { model: MODEL, prompt: 'the sea and the wind '.repeat(6000), max_tokens: 1 };

const connect = (options = {}) =>
  new OpenAI({ baseURL: `${CAKE_URL}v1`, apiKey: CAKE_KEY || 'none', maxRetries: 0, logLevel: 'off', ...options });
const client = connect();

/** At temperature 0 and of 24 tokens, where nothing else is said. */
const SHORT = { model: MODEL, messages: HELLO, temperature: 0, max_completion_tokens: 24 };
const chat = (fields = {}, options = {}) => client.chat.completions.create({ ...SHORT, ...fields }, options);
const complete = (fields = {}, options = {}) =>
  client.completions.create({ model: MODEL, prompt: 'The sea', temperature: 0, max_tokens: 24, ...fields }, options);

const textOf = (completion, i = 0) => completion.choices[i].message?.content ?? completion.choices[i].text;
/** What the chunks of a stream say for one of its choices. */
const said = (chunks, i = 0) =>
  chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.index === i)
    .map((choice) => choice.delta?.content ?? choice.text ?? '').join('');

async function all(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

/** The error that a call ends with, of the class that is expected. */
async function failure(kind, call) {
  const error = await call.then(() => assert.fail('it succeeded'), (thrown) => thrown);
  assert.equal(error.constructor.name, kind.name, error.message);
  return error;
}

async function metric(name) {
  const text = await (await fetch(`${CAKE_URL}metrics`)).text();
  return Number(text.match(new RegExp(`^${name} (.*)$`, 'm'))[1]);
}

async function until(what, condition) {
  for (const end = Date.now() + 30_000; Date.now() < end; await sleep(20)) if (await condition()) return;
  assert.fail(`waited for 30 s in vain: ${what}`);
}
const untilGauge = (name, value) => until(`${name} ${value}`, async () => (await metric(name)) === value);

/** What is wrong with a value by a JSON schema, of the keywords that stand below. */
function wrongs(schema, value, root = schema, at = '$') {
  const type = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
  const found = [];
  const check = (good, what) => good || found.push(`${at}: ${JSON.stringify(value)} is against ${what}`);
  const within = (n, least = -Infinity, most = Infinity) => n >= least && n <= most;
  if (schema.$ref) found.push(...wrongs(root.$defs[schema.$ref.slice('#/$defs/'.length)], value, root, at));
  if (schema.anyOf) check(schema.anyOf.some((other) => wrongs(other, value, root, at).length === 0), 'anyOf');
  if (schema.type)
    check([schema.type].flat().some((t) => t === type || (t === 'integer' && Number.isInteger(value))), `type ${schema.type}`);
  if (schema.enum) check(schema.enum.includes(value), `enum ${schema.enum}`);
  if ('const' in schema) check(schema.const === value, `const ${schema.const}`);
  if (type === 'number') check(within(value, schema.minimum, schema.maximum), 'minimum or maximum');
  if (type === 'string') check(within([...value].length, schema.minLength, schema.maxLength), 'minLength or maxLength');
  if (schema.format === 'date') check(/^\d{4}-\d\d-\d\d$/.test(value) && !Number.isNaN(Date.parse(value)), 'format date');
  if (type === 'array') {
    check(within(value.length, schema.minItems, schema.maxItems), 'minItems or maxItems');
    value.forEach((item, i) => found.push(...wrongs(schema.items ?? {}, item, root, `${at}[${i}]`)));
  }
  if (type === 'object') {
    for (const name of schema.required ?? []) check(Object.hasOwn(value, name), `required ${name}`);
    for (const [name, field] of Object.entries(value)) {
      const known = Object.hasOwn(schema.properties ?? {}, name);
      if (known) found.push(...wrongs(schema.properties[name], field, root, `${at}.${name}`));
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
  'optional properties': object({ id: { type: 'integer', minimum: 0, maximum: 999 }, note: word, count: { type: 'integer', minimum: 0, maximum: 99 } }, ['id']),
  'one of several types': object({
    price: { type: ['number', 'null'], minimum: 0, maximum: 100 },
    owner: { anyOf: [object({ person: word }), object({ company: word, seats: { type: 'integer', minimum: 0, maximum: 999 } })] },
  }),
  'a definition that is used twice': {
    ...object({ from: { $ref: '#/$defs/port' }, to: { $ref: '#/$defs/port' } }),
    $defs: { port: object({ name: word, deep: { type: 'boolean' } }) },
  },
  'a date': object({ day: { type: 'string', format: 'date' } }),
  'an array': { type: 'array', minItems: 1, maxItems: 4, items: { type: 'integer', minimum: -1, maximum: 1000 } },
  'numbers': object({
    one: { type: 'integer', minimum: -50, maximum: 9999 },
    more: { type: 'array', minItems: 1, maxItems: 3, items: { type: 'integer', minimum: 0, maximum: 99 } },
  }),
};
const format = (schema) => ({ type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } });

const PARTS = {
  open: () => {
    describe('chat', () => {
      it('answers, and says how it ended and what it took', async () => {
        const before = Math.floor(Date.now() / 1000);
        const answer = await chat();
        assert.match(answer.id, /^chatcmpl-[0-9a-f]{32}$/);
        assert.equal(answer.object, 'chat.completion');
        assert.equal(answer.model, MODEL);
        assert.ok(answer.created >= before && answer.created <= before + 60, `${answer.created}`);
        assert.equal(answer.choices.length, 1);
        const [choice] = answer.choices;
        assert.equal(choice.index, 0);
        assert.equal(choice.finish_reason, 'length');
        assert.equal(choice.logprobs, null);
        assert.equal(choice.message.role, 'assistant');
        assert.equal(choice.message.refusal, null);
        assert.ok(choice.message.content.length > 24);
        const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details } = answer.usage;
        assert.equal(completion_tokens, 24);
        assert.ok(prompt_tokens > 10);
        assert.equal(total_tokens, prompt_tokens + completion_tokens);
        assert.equal(prompt_tokens_details.cached_tokens, 0);
      });

      it('has another id each time, and the same text at temperature 0', async () => {
        const answers = await Promise.all(Array.from({ length: 8 }, () => chat()));
        assert.equal(new Set(answers.map(({ id }) => id)).size, 8);
        assert.equal(new Set(answers.map((answer) => textOf(answer))).size, 1);
      });

      it('counts max_completion_tokens, and max_tokens as the same', async () => {
        for (const fields of [{ max_completion_tokens: 5 }, { max_completion_tokens: undefined, max_tokens: 5 }]) {
          const answer = await chat(fields);
          assert.equal(answer.usage.completion_tokens, 5);
          assert.equal(answer.choices[0].finish_reason, 'length');
        }
        const nothing = await chat({ max_completion_tokens: 0 });
        assert.deepEqual([textOf(nothing), nothing.choices[0].finish_reason, nothing.usage.completion_tokens], ['', 'length', 0]);
      });

      it('ends before a stop string', async () => {
        const whole = textOf(await chat());
        const stop = whole.slice(10, 17);
        for (const list of [stop, [stop], ['no such thing', stop]]) {
          const answer = await chat({ stop: list });
          assert.equal(textOf(answer), whole.slice(0, whole.indexOf(stop)));
          assert.equal(answer.choices[0].finish_reason, 'stop');
          assert.ok(answer.usage.completion_tokens < 24);
          assert.equal(said(await all(await chat({ stop: list, stream: true }))), textOf(answer));
        }
      });

      it('repeats itself with a seed, and not with another', async () => {
        const draw = async (seed) => textOf(await chat({ temperature: 1, top_p: 1, min_p: 0, top_k: 0, seed }));
        assert.equal(await draw(7), await draw(7));
        assert.notEqual(await draw(7), await draw(8));
        await draw(-1);
        await draw(2 ** 40);
      });

      it('gives n answers', async () => {
        const { choices, usage } = await chat({ n: 2 });
        assert.deepEqual(choices.map(({ index, finish_reason }) => [index, finish_reason]), [[0, 'length'], [1, 'length']]);
        assert.equal(textOf({ choices }, 0), textOf({ choices }, 1));
        assert.equal(usage.completion_tokens, 48);
        const drawn = { n: 2, temperature: 1, seed: 3 };
        const different = await chat(drawn);
        assert.notEqual(textOf(different, 0), textOf(different, 1));
        const chunks = await all(await chat({ ...drawn, stream: true }));
        assert.deepEqual([said(chunks, 0), said(chunks, 1)], [textOf(different, 0), textOf(different, 1)]);
      });

      it('goes on from what it has in memory of a conversation', async () => {
        const messages = [{ role: 'system', content: 'You are a sailor.' }, { role: 'user', content: 'What is a mast?' }];
        const first = await chat({ messages });
        messages.push(first.choices[0].message, { role: 'user', content: 'And a sail?' });
        const second = await chat({ messages });
        const { prompt_tokens, prompt_tokens_details } = second.usage;
        assert.ok(prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens, JSON.stringify(second.usage));
        assert.ok(prompt_tokens_details.cached_tokens < prompt_tokens);
        const fresh = await chat({ messages, cache_prompt: false });
        assert.equal(fresh.usage.prompt_tokens_details.cached_tokens, 0);
        assert.equal(textOf(fresh), textOf(second));
      });

      it('takes text parts, developer messages and names', async () => {
        const plain = await chat({ messages: [{ role: 'system', content: 'Be brief.' }, ...HELLO] });
        const parts = await chat({
          messages: [
            { role: 'developer', content: [{ type: 'text', text: 'Be ' }, { type: 'text', text: 'brief.' }] },
            { ...HELLO[0], name: 'Ahab' },
          ],
        });
        assert.equal(textOf(parts), textOf(plain));
        assert.equal(parts.usage.prompt_tokens, plain.usage.prompt_tokens);
      });

      it('has a response behind it', async () => {
        const { data, response } = await chat({}, {}).withResponse();
        assert.equal(response.status, 200);
        assert.match(response.headers.get('content-type'), /^application\/json/);
        assert.equal(data.object, 'chat.completion');
      });
    });

    describe('a stream', () => {
      it('says in chunks what the whole answer says', async () => {
        const { data, response } = await chat({ stream: true }).withResponse();
        assert.match(response.headers.get('content-type'), /^text\/event-stream/);
        const chunks = await all(data);
        assert.equal(said(chunks), textOf(await chat()));
        assert.ok(chunks.length > 10, 'token by token');
        assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
        assert.deepEqual(new Set(chunks.map((chunk) => chunk.object)), new Set(['chat.completion.chunk']));
        assert.equal(chunks[0].choices[0].delta.role, 'assistant');
        assert.deepEqual(chunks.map((chunk) => chunk.choices[0].finish_reason),
          [...Array(chunks.length - 1).fill(null), 'length']);
        assert.ok(chunks.every((chunk) => chunk.usage == null));
      });

      it('ends with the usage where it is asked for', async () => {
        const chunks = await all(await chat({ stream: true, stream_options: { include_usage: true }, cache_prompt: false }));
        const last = chunks.pop();
        assert.deepEqual(last.choices, []);
        assert.deepEqual(last.usage, (await chat({ cache_prompt: false })).usage);
        assert.ok(chunks.every((chunk) => chunk.usage == null && chunk.choices.length === 1));
      });

      it('is put together by stream() and finalChatCompletion()', async () => {
        const stream = client.chat.completions.stream({ ...SHORT, stream_options: { include_usage: true }, cache_prompt: false });
        const deltas = [];
        let snapshot;
        stream.on('content', (delta, text) => { deltas.push(delta); snapshot = text; });
        const final = await stream.finalChatCompletion();
        const whole = await chat({ cache_prompt: false });
        assert.equal(textOf(final), textOf(whole));
        assert.equal(deltas.join(''), textOf(whole));
        assert.equal(snapshot, textOf(whole));
        assert.equal(await stream.finalContent(), textOf(whole));
        assert.equal((await stream.finalMessage()).role, 'assistant');
        assert.deepEqual(final.usage, whole.usage);
        assert.equal(final.choices[0].finish_reason, 'length');
      });

      it('goes through toReadableStream()', async () => {
        const expected = textOf(await chat());
        const plain = await chat({ stream: true });
        const lines = (await new Response(plain.toReadableStream()).text()).trim().split('\n');
        assert.equal(said(lines.map((line) => JSON.parse(line))), expected);
        const helper = client.chat.completions.stream(SHORT);
        const copy = ChatCompletionStream.fromReadableStream(helper.toReadableStream());
        assert.equal(textOf(await copy.finalChatCompletion()), expected);
      });

      it('is two with tee()', async () => {
        const [left, right] = (await chat({ stream: true })).tee();
        const [a, b] = await Promise.all([all(left), all(right)]);
        assert.equal(said(a), said(b));
        assert.equal(said(a), textOf(await chat()));
      });
    });

    describe('an answer that nobody wants any more', () => {
      /** Runs it while the server generates, and sees that this ends long before the answer would. */
      async function endsEarly(leave) {
        await untilGauge('cake_requests_generating', 0);
        const before = await metric('cake_generated_tokens_total');
        await leave();
        await untilGauge('cake_requests_generating', 0);
        assert.ok((await metric('cake_generated_tokens_total')) - before < ENDLESS.max_completion_tokens / 2);
      }

      it('ends with controller.abort()', () => endsEarly(async () => {
        const stream = await chat({ ...ENDLESS, stream: true });
        const chunks = [];
        for await (const chunk of stream) {
          chunks.push(chunk);
          if (chunks.length === 5) {
            assert.equal(await metric('cake_requests_generating'), 1);
            stream.controller.abort();
          }
        }
        assert.ok(chunks.length >= 5);
      }));

      it('ends with a break out of the loop', () => endsEarly(async () => {
        for await (const chunk of await chat({ ...ENDLESS, stream: true })) if (chunk.choices[0].delta.content) break;
      }));

      it('ends with abort() of stream()', () => endsEarly(async () => {
        const stream = client.chat.completions.stream(ENDLESS);
        stream.once('content', () => stream.abort());
        await failure(OpenAI.APIUserAbortError, stream.finalChatCompletion());
      }));

      it('ends with the signal of a request that does not stream', () => endsEarly(async () => {
        const controller = new AbortController();
        const call = failure(OpenAI.APIUserAbortError, chat(ENDLESS, { signal: controller.signal }));
        await untilGauge('cake_requests_generating', 1);
        controller.abort();
        await call;
      }));

      it('ends with a timeout', () => endsEarly(async () => {
        await failure(OpenAI.APIConnectionTimeoutError, chat(ENDLESS, { timeout: 700 }));
      }));

      it('ends while its prompt is read', async () => {
        for (const stream of [false, true]) {
          const controller = new AbortController();
          const call = failure(OpenAI.APIUserAbortError,
            complete({ ...LONG, stream }, { signal: controller.signal }).then((answer) => (stream ? all(answer) : answer)));
          // The headers of a stream come at once; it fails where it is read.
          await untilGauge('cake_requests_reading', 1);
          const begin = Date.now();
          controller.abort();
          await call.catch((error) => { if (!stream) throw error; });
          await untilGauge('cake_requests_reading', 0);
          assert.ok(Date.now() - begin < 10_000, 'it was read to its end');
        }
      });
    });

    describe('logprobs', () => {
      const check = (content, text, n) => {
        assert.equal(Buffer.from(content.flatMap(({ bytes }) => bytes)).toString(), text);
        for (const { token, logprob, bytes, top_logprobs } of content) {
          assert.ok(logprob <= 0);
          assert.equal(Buffer.from(bytes).toString(), token);
          assert.equal(top_logprobs.length, n);
          const values = top_logprobs.map((top) => top.logprob);
          assert.deepEqual(values, values.toSorted((a, b) => b - a));
          if (n > 0) assert.deepEqual([top_logprobs[0].token, values[0]], [token, logprob], 'temperature 0 draws the likeliest');
          assert.ok(values.reduce((sum, value) => sum + Math.exp(value), 0) <= 1 + 1e-4);
        }
      };

      it('stand beside every token of a chat', async () => {
        for (const n of [0, 1, 5, 20]) {
          const answer = await chat({ logprobs: true, top_logprobs: n });
          assert.equal(answer.choices[0].logprobs.content.length, 24);
          check(answer.choices[0].logprobs.content, textOf(answer), n);
        }
      });

      it('are the same in a stream, and put together by stream()', async () => {
        const fields = { ...SHORT, logprobs: true, top_logprobs: 3 };
        const { content } = (await chat(fields)).choices[0].logprobs;
        const chunks = await all(await chat({ ...fields, stream: true }));
        assert.deepEqual(chunks.flatMap((chunk) => chunk.choices[0].logprobs?.content ?? []), content);
        const final = await client.chat.completions.stream(fields).finalChatCompletion();
        assert.deepEqual(final.choices[0].logprobs.content, content);
      });

      it('stand beside every token of a completion', async () => {
        const answer = await complete({ logprobs: 3 });
        const { tokens, token_logprobs, top_logprobs, text_offset } = answer.choices[0].logprobs;
        assert.equal(tokens.length, 24);
        assert.equal(tokens.join(''), answer.choices[0].text);
        tokens.forEach((token, i) => {
          assert.equal(answer.choices[0].text.slice(text_offset[i], text_offset[i] + token.length), token);
          assert.equal(Object.keys(top_logprobs[i]).length, 3);
          assert.equal(top_logprobs[i][token], token_logprobs[i]);
        });
        const chunks = await all(await complete({ logprobs: 3, stream: true }));
        assert.deepEqual(chunks.flatMap((chunk) => chunk.choices[0].logprobs?.text_offset ?? []), text_offset);
        assert.deepEqual(chunks.flatMap((chunk) => chunk.choices[0].logprobs?.tokens ?? []), tokens);
      });
    });

    describe('response_format', () => {
      for (const [name, schema] of Object.entries(SCHEMAS)) {
        it(`keeps to a schema: ${name}`, async () => {
          for (const fields of [{ temperature: 0 }, ...[1, 2, 3].map((seed) => ({ temperature: 1.5, seed }))]) {
            const answer = await chat({ ...fields, max_completion_tokens: 2000, response_format: format(schema) });
            assert.equal(answer.choices[0].finish_reason, 'stop', textOf(answer));
            assert.deepEqual(wrongs(schema, JSON.parse(textOf(answer))), []);
          }
        });
      }

      it('is parsed by parse() and by stream()', async () => {
        const schema = SCHEMAS['nested objects and arrays'];
        const fields = { ...SHORT, max_completion_tokens: 2000, response_format: format(schema) };
        const { message } = (await client.chat.completions.parse(fields)).choices[0];
        assert.deepEqual(wrongs(schema, message.parsed), []);
        assert.deepEqual(message.parsed, JSON.parse(message.content));
        const streamed = await client.chat.completions.stream(fields).finalChatCompletion();
        assert.deepEqual(streamed.choices[0].message.parsed, message.parsed);
      });

      it('that ends at max_completion_tokens is told from one that is whole', async () => {
        const fields = { ...SHORT, max_completion_tokens: 4, response_format: format(SCHEMAS['a date']) };
        const answer = await chat(fields);
        assert.equal(answer.choices[0].finish_reason, 'length');
        await failure(LengthFinishReasonError, client.chat.completions.stream(fields).finalChatCompletion());
      });

      it('json_object gives some object', async () => {
        const found = [];
        for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
          // Without the bias it likes the empty object best.
          const answer = await chat({
            temperature: 1.5, seed, max_completion_tokens: 2000, response_format: { type: 'json_object' },
            logit_bias: seed % 2 ? Object.fromEntries(await tokensOf('}').then((tokens) => tokens.map((t) => [t, -3]))) : {},
          });
          if (answer.choices[0].finish_reason === 'length') continue;
          const value = JSON.parse(textOf(answer));
          assert.equal(Object.prototype.toString.call(value), '[object Object]');
          found.push(value);
        }
        assert.ok(found.length > 0, 'none of them ended');
      });

      it('text changes nothing', async () => {
        assert.equal(textOf(await chat({ response_format: { type: 'text' } })), textOf(await chat()));
      });
    });

    describe('completions', () => {
      it('answer, whole and streaming', async () => {
        const answer = await complete();
        assert.match(answer.id, /^cmpl-[0-9a-f]{32}$/);
        assert.equal(answer.object, 'text_completion');
        assert.deepEqual([answer.choices[0].index, answer.choices[0].finish_reason], [0, 'length']);
        assert.equal(answer.usage.completion_tokens, 24);
        const chunks = await all(await complete({ stream: true, stream_options: { include_usage: true } }));
        assert.deepEqual(chunks.pop().usage, answer.usage);
        assert.equal(said(chunks), answer.choices[0].text);
        assert.equal(chunks.at(-1).choices[0].finish_reason, 'length');
      });

      it('take tokens for a prompt', async () => {
        const whole = await complete();
        const tokens = (await (await fetch(`${CAKE_URL}tokenize`, {
          method: 'POST', body: JSON.stringify({ content: 'The sea', add_special: true }) })).json()).tokens;
        for (const prompt of [tokens, [tokens], ['The sea']]) assert.equal(textOf(await complete({ prompt })), textOf(whole));
      });

      it('repeat the prompt with echo', async () => {
        const prompt = 'Žluťoučký kůň, 日本語, 👩‍🚀 and the sea';
        const answer = await complete({ prompt, echo: true });
        assert.equal(textOf(answer), prompt + textOf(await complete({ prompt })));
        assert.equal(said(await all(await complete({ prompt, echo: true, stream: true }))), textOf(answer));
        assert.equal(textOf(await complete({ prompt, echo: true, max_tokens: 0 })), prompt);
      });

      it('end before a stop string, with n of them', async () => {
        const whole = textOf(await complete());
        const stop = whole.slice(8, 14);
        const answer = await complete({ stop, n: 2 });
        for (const i of [0, 1]) {
          assert.equal(textOf(answer, i), whole.slice(0, whole.indexOf(stop)));
          assert.equal(answer.choices[i].finish_reason, 'stop');
        }
        const chunks = await all(await complete({ stop, n: 2, stream: true }));
        assert.deepEqual([said(chunks, 0), said(chunks, 1)], [textOf(answer, 0), textOf(answer, 1)]);
      });
    });

    describe('unicode', () => {
      it('comes out of a stream in whole characters', async () => {
        for (const seed of [1, 2, 3]) {
          const fields = { temperature: 20, top_k: 0, top_p: 1, min_p: 0, seed, max_completion_tokens: 200, ignore_eos: true };
          const whole = await chat(fields);
          const chunks = await all(await chat({ ...fields, stream: true }));
          assert.equal(said(chunks), textOf(whole));
          assert.ok(chunks.every((chunk) => (chunk.choices[0].delta.content ?? '').isWellFormed()));
        }
      });

      it('goes in and out of a grammar', async () => {
        const grammar = 'root ::= "😀 ďábel 日本"';
        assert.equal(textOf(await chat({ grammar })), '😀 ďábel 日本');
        const chunks = await all(await chat({ grammar, stream: true, logprobs: true, top_logprobs: 2 }));
        assert.equal(said(chunks), '😀 ďábel 日本');
        const bytes = chunks.flatMap((chunk) => chunk.choices[0].logprobs?.content ?? []).flatMap((token) => token.bytes);
        assert.equal(Buffer.from(bytes).toString(), '😀 ďábel 日本');
      });

      it('counts in the offsets of logprobs as characters', async () => {
        const { text, logprobs } = (await complete({ grammar: 'root ::= "— the sea"', logprobs: 0 })).choices[0];
        assert.equal(text, '— the sea');
        const characters = [...text];
        logprobs.tokens.forEach((token, i) => {
          if (/^[ a-z]+$/.test(token))
            assert.equal(characters.slice(logprobs.text_offset[i], logprobs.text_offset[i] + token.length).join(''), token);
        });
      });

      it('that is none is refused', async () => {
        await failure(OpenAI.BadRequestError, chat({ messages: [{ role: 'user', content: 'half a \ud83d' }] }));
        const odd = [{ role: 'user', content: 'nul \u0000, bell \u0007, \u2028, \ufeff, \u{10ffff}' }];
        assert.ok(textOf(await chat({ messages: odd })).length > 0);
      });
    });

    describe('models', () => {
      async function notFound(name) {
        const error = await failure(OpenAI.NotFoundError, client.models.retrieve(name));
        assert.deepEqual([error.status, error.code, error.type], [404, 'model_not_found', 'invalid_request_error'], name);
      }

      it('are listed and retrieved', async () => {
        const models = await all(client.models.list());
        assert.deepEqual(models.map(({ id, object: kind }) => [id, kind]), [[MODEL, 'model']]);
        assert.deepEqual(await client.models.retrieve(MODEL), models[0]);
      });

      it('that are not here are not found', async () => {
        for (const name of ['gpt-5', 'žluť']) await notFound(name);
      });

      it('that are not here are not found, with a slash in the name either', () => notFound('some/model'));
    });

    describe('errors', () => {
      it('name the field that is wrong', async () => {
        for (const [param, fields] of Object.entries({
          temperature: { temperature: 'hot' },
          top_p: { top_p: 1.5 },
          messages: { messages: [] },
          max_completion_tokens: { max_completion_tokens: -2 },
          n: { n: 1000 },
          stop: { stop: [''] },
          tools: { tools: [{ type: 'function', function: { name: 'a b', parameters: {} } }] },
          top_logprobs: { top_logprobs: 3 },
          logit_bias: { logit_bias: { 99999999: 1 } },
          response_format: { response_format: format({ type: 'string', not: { const: 'a' } }) },
          policy: { policy: 'none such' },
        })) {
          const error = await failure(OpenAI.BadRequestError, chat(fields));
          assert.deepEqual([error.status, error.param, error.code, error.type],
            [400, param, null, 'invalid_request_error'], error.message);
          assert.ok(error.message.length > 20, error.message);
          await failure(OpenAI.BadRequestError, chat({ ...fields, stream: true }));
        }
      });

      it('name the field, too, where the scheduler refuses it', async () => {
        const params = {};
        for (const [param, fields] of Object.entries({
          prompt: { prompt: Array(70_000).fill(5) },
          kv_budget: { kv_budget: 1 },
          grammar: { grammar: 'root ::= (' },
        }))
          params[param] = (await failure(OpenAI.BadRequestError, complete(fields))).param;
        assert.deepEqual(params, { prompt: 'prompt', kv_budget: 'kv_budget', grammar: 'grammar' });
      });

      it('say by how much a prompt is too long', async () => {
        const error = await failure(OpenAI.BadRequestError, complete({ prompt: Array(70_000).fill(5) }));
        assert.match(error.message, /70000.*65536/);
      });

      it('say what is not there', async () => {
        for (const call of [() => client.audio.speech.create({ model: MODEL, input: 'a', voice: 'alloy' }),
          () => client.files.list().then(() => {})])
          assert.match((await failure(OpenAI.NotFoundError, call())).message, /there is nothing at/);
      });

      it('leave the connection usable', async () => {
        for (let i = 0; i < 5; i++) {
          await failure(OpenAI.BadRequestError, chat({ temperature: -1 }));
          assert.equal((await chat({ max_completion_tokens: 1 })).usage.completion_tokens, 1);
        }
      });

      it('are connection errors where nobody listens', async () => {
        await failure(OpenAI.APIConnectionError, connect({ baseURL: 'http://127.0.0.1:9/v1' }).models.list().then(() => {}));
      });
    });
  },

  key: () => describe('a server with a key', () => {
    it('lets in whoever has it', async () => {
      assert.ok(textOf(await chat()).length > 0);
      assert.equal(said(await all(await chat({ stream: true }))), textOf(await chat()));
    });

    it('refuses others', async () => {
      for (const apiKey of ['wrong', `${CAKE_KEY}x`, CAKE_KEY.slice(1), ' ']) {
        const stranger = connect({ apiKey });
        for (const call of [() => stranger.models.list().then(() => {}),
          () => stranger.chat.completions.create({ ...ENDLESS, stream: true })]) {
          const error = await failure(OpenAI.AuthenticationError, call());
          assert.deepEqual([error.status, error.code, error.type], [401, 'invalid_api_key', 'authentication_error']);
        }
      }
      for (const path of ['metrics', 'slots', 'v1/models'])
        assert.equal((await fetch(CAKE_URL + path)).status, 401, path);
      assert.equal((await fetch(`${CAKE_URL}health`)).status, 200);
    });
  }),

  busy: () => describe('a server that is busy', () => {
    /** Runs it while the only sequence is taken. */
    async function whileBusy(use) {
      const stream = await chat({ ...ENDLESS, stream: true });
      const reader = stream[Symbol.asyncIterator]();
      await reader.next();
      await reader.next();
      await use(() => stream.controller.abort());
      stream.controller.abort();
      await untilGauge('cake_requests_generating', 0);
    }

    /** A client that notes when it asks, and what it was told. */
    function noting(maxRetries, then = () => {}) {
      const calls = [];
      const noted = async (...call) => {
        const begin = performance.now();
        const response = await fetch(...call);
        calls.push({ begin, end: performance.now(), status: response.status, wait: response.headers.get('retry-after') });
        then(calls.length);
        return response;
      };
      return [connect({ maxRetries, fetch: noted }), calls];
    }
    const ask = (other) => other.chat.completions.create({ model: MODEL, messages: HELLO, max_completion_tokens: 4 });

    it('says when to come again', () => whileBusy(async () => {
      const [other, calls] = noting(0);
      const error = await failure(OpenAI.InternalServerError, ask(other));
      assert.deepEqual([error.status, error.code, error.type], [503, 'overloaded', 'overloaded_error']);
      assert.equal(calls.length, 1);
      assert.match(error.headers.get('retry-after'), /^[1-9][0-9]*$/);
    }));

    it('is asked again after that time, in vain', () => whileBusy(async () => {
      const [other, calls] = noting(1);
      await failure(OpenAI.InternalServerError, ask(other));
      assert.deepEqual(calls.map(({ status }) => status), [503, 503]);
      assert.ok(calls[1].begin - calls[0].end >= 1000 * calls[0].wait - 20, JSON.stringify(calls));
    }));

    it('is asked again after that time, and answers', () => whileBusy(async (end) => {
      const [other, calls] = noting(1, end);
      assert.equal((await ask(other)).usage.completion_tokens, 4);
      assert.deepEqual(calls.map(({ status }) => status), [503, 200]);
      assert.ok(calls[1].begin - calls[0].end >= 1000 * calls[0].wait - 20, JSON.stringify(calls));
    }));

    it('refuses a stream in the same way', () => whileBusy(async () => {
      const error = await failure(OpenAI.InternalServerError, chat({ stream: true }));
      assert.equal(error.status, 503);
    }));
  }),

  stopped: () => describe('a server that is being stopped', () => {
    it('goes on for a while, takes nothing new, and says so to those that it ends', async () => {
      const stream = await chat({ ...ENDLESS, stream: true });
      const reader = stream[Symbol.asyncIterator]();
      for (let i = 0; i < 3; i++) await reader.next();
      process.kill(Number(CAKE_PID), 'SIGTERM');
      await until('it is being stopped', async () => (await fetch(`${CAKE_URL}health`)).status === 503);
      const refused = await failure(OpenAI.InternalServerError, chat());
      assert.deepEqual([refused.status, refused.code], [503, 'overloaded']);
      const ended = await failure(OpenAI.APIError, all({ [Symbol.asyncIterator]: () => reader }));
      assert.match(ended.message, /being stopped/);
      await until('nobody listens any more', () => fetch(`${CAKE_URL}health`).then(() => false, () => true));
      await failure(OpenAI.APIConnectionError, chat());
    });
  }),
};

async function tokensOf(content) {
  const response = await fetch(`${CAKE_URL}tokenize`, { method: 'POST', body: JSON.stringify({ content }) });
  return (await response.json()).tokens;
}

PARTS[CAKE_PART]();
