// What Ollama's JavaScript client makes of a daemon: every method, streamed and whole. Prints one JSON object: name -> result.
//   node judge.cjs FOLDER URL     FOLDER has the node_modules with the package
const { createRequire } = require("node:module");
const [folder, host] = process.argv.slice(2);
const { Ollama } = createRequire(`${folder}/`)("ollama");
const ollama = new Ollama({ host });

const HI = [{ role: "user", content: "Hi" }];
const COLD = { temperature: 0, num_predict: 8 };
const PIXEL = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

async function failing(promise) {
  try {
    return { none: await promise };
  } catch (error) {
    return { name: error.name, status: error.status_code, error: error.error };
  }
}

const asks = {
  generate: () => ollama.generate({ model: "hello", prompt: "Hi" }),
  generate_stream: () => all(ollama.generate({ model: "hello", prompt: "Hi", stream: true })),
  generate_logprobs: () => ollama.generate({ model: "rand", prompt: "Hi", options: COLD, logprobs: true, top_logprobs: 2 }),
  chat: () => ollama.chat({ model: "hello", messages: HI }),
  chat_stream: () => all(ollama.chat({ model: "hello", messages: HI, stream: true })),
  tools: (tool) => ollama.chat({ model: "tool", messages: HI, tools: [tool] }),
  thinking: () => ollama.chat({ model: "think", messages: HI, think: true }),
  form: () => ollama.chat({ model: "city", messages: HI, format: "json" }),
  embed: () => ollama.embed({ model: "vectors", input: ["a", "b"], dimensions: 4 }),
  embeddings: () => ollama.embeddings({ model: "vectors", prompt: "a" }),
  list: () => ollama.list(),
  ps: () => ollama.ps(),
  show: () => ollama.show({ model: "tool" }),
  version: () => ollama.version(),
  copy: () => ollama.copy({ source: "hello", destination: "js" }),
  create: () => all(ollama.create({ model: "js", from: "hello", system: "Be kind.", parameters: { temperature: 0 }, stream: true })),
  created: () => ollama.show({ model: "js" }),
  pull: () => all(ollama.pull({ model: "hf.co/me/repo", stream: true })),
  push: (tool, registry) => ollama.copy({ source: "hello", destination: registry })
    .then(() => all(ollama.push({ model: registry, insecure: true, stream: true }))),
  delete: async (tool, registry) => {
    for (const model of ["js", "hf.co/me/repo", registry]) await ollama.delete({ model });
    return (await ollama.list()).models.map((each) => each.name);
  },
  absent: () => failing(ollama.chat({ model: "absent", messages: HI })),
  absent_stream: () => failing(ollama.generate({ model: "absent", prompt: "Hi", stream: true })),
  blind: () => failing(ollama.chat({ model: "hello", messages: [{ role: "user", content: "What?", images: [PIXEL] }] })),
  option: () => failing(ollama.generate({ model: "hello", prompt: "Hi", options: { num_ctx: "x" } })),
  aborted: async () => {
    const stream = await ollama.generate({ model: "rand", prompt: "Hi", stream: true, options: { num_predict: 2000 } });
    return failing((async () => { for await (const chunk of stream) stream.abort(); })());
  },
};

(async () => {
  const [tool, registry] = [JSON.parse(process.argv[4]), process.argv[5]];
  const found = {};
  for (const [name, ask] of Object.entries(asks)) {
    try {
      found[name] = (await ask(tool, registry)) ?? null;
    } catch (error) {
      found[name] = { thrown: String(error.stack) };
    }
  }
  console.log(JSON.stringify(found));
})();
