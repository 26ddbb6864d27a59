import { HostError, type Machine, type PlaneContext, Schedule, activityNames, type Vp } from '@vmplanes/engine';
import { isRegisterName, readRegister } from '@vmplanes/x86';
import { didYouMean } from '../config/explain-issues.ts';

/** Something to look at: a value, or a record whose keys are further paths. */
type Node = Readonly<Record<string, () => unknown>>;

const planeNode = (machine: Machine, context: PlaneContext): Node => ({
  name: () => machine.meaning.planeName(context.plane),
  schedule: () => (context.schedule === Schedule.Runnable ? 'runnable' : 'stopped'),
  activity: () => activityNames[context.activity],
  wait: () => context.wait,
  completion: () => context.completion,
  retired: () => context.retired,
  events: () => context.events.balance(),
  registers: () => Object.fromEntries(machine.arch.layout.registers.map((r) => [r.name, () => registerOf(machine, context, r.name)])),
});

function registerOf(machine: Machine, context: PlaneContext, name: string): bigint {
  if (!isRegisterName(name)) throw new HostError('Internal', `no register '${name}'`);
  return readRegister(machine.arena, machine.blockOf(context, name), name);
}

const vpNode = (machine: Machine, vp: Vp): Node => ({
  current: () => vp.current,
  pending: () => vp.pending,
  runnable: () => vp.runnable,
  time: () => machine.timeOf(vp),
  statistics: () => ({ ...vp.statistics }),
  planes: () => Object.fromEntries(vp.planes.flatMap((c) => (c ? [[String(c.plane), () => planeNode(machine, c)] as const] : []))),
});

const machineNode = (machine: Machine): Node => ({
  time: () => machine.time,
  policy: () => machine.policy.name,
  rule: () => machine.rule.name,
  options: () => machine.options,
  claims: () => machine.claims.list(),
  vps: () => Object.fromEntries(machine.vps.map((vp) => [String(vp.index), () => vpNode(machine, vp)])),
  personalities: () => Object.fromEntries(machine.personalities.map((p) => [p.name, () => p.save()])),
});

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null && Object.values(value).length > 0 && Object.values(value).every((v) => typeof v === 'function');

/** A node with its plain values; nodes below it as the list of their keys. */
const shallow = (node: Node): unknown =>
  Object.fromEntries(
    Object.entries(node).map(([key, get]) => {
      const value = get();
      return [key, isNode(value) ? Object.keys(value) : value];
    }),
  );

/**
 * Looks something up in a machine, such as `vps/0/planes/1/registers/rax`. Changes nothing.
 * @param path - keys separated by `/`; empty for the machine.
 * @returns numbers, texts, records; 64-bit registers as bigint.
 * @throws {HostError} BadConfig names the part that does not exist and what does.
 */
export function inspectMachine(machine: Machine, path: string): unknown {
  let value: unknown = machineNode(machine);
  const keys = path.split('/').filter((key) => key !== '');
  for (const [i, key] of keys.entries()) {
    const where = keys.slice(0, i).join('/') || 'the machine';
    if (isNode(value) && Object.hasOwn(value, key)) value = value[key]!();
    else if (!isNode(value) && typeof value === 'object' && value !== null && Object.hasOwn(value, key)) value = (value as Readonly<Record<string, unknown>>)[key];
    else {
      const known = typeof value === 'object' && value !== null ? Object.keys(value) : [];
      const near = didYouMean(key, known);
      const fix = near ? `did you mean '${near}'?` : known.length > 0 ? `known: ${known.slice(0, 12).join(', ')}${known.length > 12 ? ', ...' : ''}` : 'it is a plain value';
      throw new HostError('BadConfig', `inspect '${path}': ${where} has no '${key}' (${fix})`, { path, fix });
    }
  }
  return isNode(value) ? shallow(value) : value;
}
