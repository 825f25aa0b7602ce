// In node: jobs come by standard input and answers leave by standard output, both as JSON.
import { webcrypto } from "node:crypto";
import { text } from "node:stream/consumers";
import { answerAll } from "./reader.mjs";

// zarrita leaves what it throws of an unknown codec to the process too
process.on("unhandledRejection", (error) => {
  if (error.name !== "UnknownCodecError") throw error;
});

// not every node has it by itself
globalThis.crypto ??= webcrypto;

const answers = await answerAll(JSON.parse(await text(process.stdin)), process.argv[2]);
process.stdout.write(JSON.stringify(answers));
