import { readFileSync } from 'node:fs';
import { Command } from 'commander';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { readonly version: string };

const program = new Command('vmplanes').description('A VM-planes engine with personality plug-ins').version(manifest.version);

await program.parseAsync();
