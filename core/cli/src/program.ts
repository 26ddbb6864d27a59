import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { readFileSync } from 'node:fs';
import { exitCodes } from './exit-codes.ts';
import { type Outcome, tell, tellError } from './output.ts';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { readonly version: string };

const whole =
  (from: number, to: number) =>
  (text: string): number => {
    const n = Number(text);
    if (!/^(0x[0-9a-fA-F]+|[0-9]+)$/.test(text) || n < from || n > to) throw new InvalidArgumentError(`Not a whole number in ${from}..${to}.`);
    return n;
  };
const seed = whole(0, 2 ** 32 - 1);

const jsonOption = (): Option => new Option('--json', 'print one JSON object on stdout and nothing else');
const traceOption = (): Option => new Option('--trace <file>', 'record the run');
const seedOption = (): Option => new Option('--seed <n>', 'seed of the schedule; 0 runs full slices in order').argParser(seed);

const examples = (...lines: readonly string[]): string => `\nExamples:\n${lines.map((l) => `  $ ${l}`).join('\n')}`;

/** The command line. @param finish - takes the exit code of the command that ran. */
export function makeProgram(finish: (code: number) => void): Command {
  /** Runs a command and tells what it found. Commands are imported when they run, so that help and version come at once. */
  const tells =
    <A extends readonly unknown[]>(work: (...args: A) => Promise<Outcome> | Outcome) =>
    async (json: boolean | undefined, ...args: A): Promise<void> => {
      try {
        finish(tell(await work(...args), json ?? false));
      } catch (error) {
        finish(tellError(error, json ?? false));
      }
    };

  const program = new Command('vmplanes')
    .description('A VM-planes engine with personality plug-ins.')
    .version(manifest.version)
    .showSuggestionAfterError()
    .showHelpAfterError('(vmplanes --help lists the commands)')
    .addHelpText('after', examples('vmplanes start', 'vmplanes run guest.json --trace run.jsonl', 'vmplanes replay run.jsonl', 'vmplanes planes-abi diff 2025-04 2026-06'))
    .addHelpText('after', `\nExit codes:\n${Object.values(exitCodes).map(({ code, meaning }) => `  ${String(code).padStart(3)}  ${meaning}`).join('\n')}`);

  interface StartFlags {
    readonly guestType: string;
    readonly trace?: string;
    readonly seed?: number;
    readonly json?: boolean;
  }
  program
    .command('start')
    .description('run the demonstration guest of a guest type and print its switches')
    .option('--guest-type <type>', 'example, kvm-pv or plain', 'example')
    .addOption(traceOption())
    .addOption(seedOption())
    .addOption(jsonOption())
    .addHelpText('after', examples('vmplanes start', 'vmplanes start --guest-type kvm-pv --json'))
    .action((flags: StartFlags) => tells(async () => (await import('./commands/start.ts')).start(flags))(flags.json));

  interface RunFlags {
    readonly guestType?: string;
    readonly trace?: string;
    readonly check?: boolean;
    readonly seed?: number;
    readonly maxSlices?: number;
    readonly restore?: string;
    readonly snapshot?: string;
    readonly json?: boolean;
  }
  program
    .command('run')
    .description('run a guest')
    .argument('<guest>', 'guest configuration (.json), or an image')
    .option('--guest-type <type>', 'guest type, instead of the one the configuration names')
    .addOption(traceOption())
    .option('--check', 'check the invariants after every event')
    .addOption(seedOption())
    .addOption(new Option('--max-slices <n>', 'come back after so many slices').argParser(whole(1, Number.MAX_SAFE_INTEGER)))
    .option('--restore <file>', 'start from a snapshot')
    .option('--snapshot <file>', 'write a snapshot at the end')
    .addOption(jsonOption())
    .addHelpText('after', examples('vmplanes run guest.json', 'vmplanes run guest.json --seed 7 --check --trace run.jsonl', 'vmplanes run guest.json --max-slices 100 --snapshot half.snap'))
    .action((guest: string, flags: RunFlags) => tells(async () => (await import('./commands/run.ts')).run(guest, flags))(flags.json));

  interface ReplayFlags {
    readonly semantic?: boolean;
    readonly all?: boolean;
    readonly guest?: string;
    readonly json?: boolean;
  }
  program
    .command('replay')
    .description('check a trace and report the first divergence')
    .argument('<trace>', 'trace file')
    .option('--semantic', 'run the guest again and compare calls, statuses, switches and interrupts only')
    .option('--all', 'go on behind a divergence')
    .option('--guest <file>', 'guest configuration whose relative paths count, when the trace was moved')
    .addOption(jsonOption())
    .addHelpText('after', examples('vmplanes replay run.jsonl', 'vmplanes replay run.jsonl --semantic --json'))
    .action((trace: string, flags: ReplayFlags) => tells(async () => (await import('./commands/replay.ts')).replay(trace, flags))(flags.json));

  interface JsonFlag {
    readonly json?: boolean;
  }
  program
    .command('personalities')
    .description('list the personalities, or print the support matrix of one')
    .argument('[name]', 'short name, package name or path')
    .addOption(jsonOption())
    .addHelpText('after', examples('vmplanes personalities', 'vmplanes personalities kvm-pv', 'vmplanes personalities ./my-personality.js --json'))
    .action((name: string | undefined, flags: JsonFlag) => tells(async () => (await import('./commands/listings.ts')).personalities(name))(flags.json));

  program
    .command('guest-types')
    .description('list the guest types')
    .addOption(jsonOption())
    .action((flags: JsonFlag) => tells(async () => (await import('./commands/listings.ts')).guestTypes())(flags.json));

  const planesAbi = program.command('planes-abi').description('the published designs of KVM planes');
  planesAbi
    .command('diff')
    .description('print what two designs say differently')
    .argument('<a>', '2024-10, 2025-04, 2026-06 or vmplanes')
    .argument('<b>', 'another one')
    .addOption(jsonOption())
    .addHelpText('after', examples('vmplanes planes-abi diff 2025-04 2026-06'))
    .action((a: string, b: string, flags: JsonFlag) => tells(async () => (await import('./commands/planes-abi.ts')).planesAbiDiff(a, b))(flags.json));

  program
    .command('docs')
    .description('write the generated reference pages below core/cli/docs')
    .option('--check', 'write nothing, fail when a page is out of date')
    .addOption(jsonOption())
    .action((flags: JsonFlag & { readonly check?: boolean }) => tells(async () => (await import('./commands/docs.ts')).docs(makeProgram(() => undefined), flags))(flags.json));

  return program;
}

/**
 * Runs the command line.
 * @param argv - arguments without the program.
 * @returns the exit code.
 */
export async function main(argv: readonly string[]): Promise<number> {
  let code: number = exitCodes.Ok.code;
  const program = makeProgram((c) => {
    code = c;
  });
  for (const command of [program, ...program.commands.flatMap((c) => [c, ...c.commands])]) command.exitOverride();
  try {
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) return tellError(error, argv.includes('--json'));
    return error.exitCode === 0 ? exitCodes.Ok.code : exitCodes.Usage.code;
  }
  return code;
}
