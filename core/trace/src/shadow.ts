import { type ContextLayout, HostError, type Machine, MAX_PLANES, type PlaneContext, type RegisterDef } from '@vmplanes/engine';
import type { Registers } from './format.ts';

/** The value of a register as an unsigned number, `0x…`. @param base - byte offset of the context block. */
export const readRegister = (bytes: Uint8Array, base: number, register: RegisterDef): string => {
  let text = '';
  for (let i = base + register.offset + register.size - 1; i >= base + register.offset; i--) {
    const byte = bytes[i]!;
    if (text !== '') text += byte.toString(16).padStart(2, '0');
    else if (byte !== 0) text = byte.toString(16);
  }
  return `0x${text === '' ? '0' : text}`;
};

/** Whether a value of a trace fits a register. @param value - `0x…`. */
export const fitsRegister = (value: string, register: RegisterDef): boolean => value.replace(/^0x0*/, '').length <= register.size * 2;

/** Writes a register. @param value - `0x…`, of at most the register's size. */
export const writeRegister = (bytes: Uint8Array, base: number, register: RegisterDef, value: string): void => {
  const digits = value.slice(2).padStart(register.size * 2, '0');
  for (let i = 0; i < register.size; i++) {
    const at = digits.length - 2 * (i + 1);
    bytes[base + register.offset + i] = Number.parseInt(digits.slice(at, at + 2), 16);
  }
};

/** What architectural registers a layout has: those that traces show. */
export const tracedRegisters = (layout: ContextLayout): readonly RegisterDef[] => layout.registers.filter((r) => r.architectural !== false);

/** Copies of all context blocks as they were when last looked at, to find what changed since. New contexts start as zeros. */
export class RegisterShadow {
  readonly #machine: Machine;
  readonly #registers: readonly RegisterDef[];
  readonly #copies: (Uint8Array | undefined)[] = [];

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#registers = tracedRegisters(machine.arch.layout);
  }

  #copyOf(context: PlaneContext): Uint8Array {
    return (this.#copies[context.vp.index * MAX_PLANES + context.plane] ??= new Uint8Array(this.#machine.arch.layout.size));
  }

  /** Registers of a context that differ from its copy, with their values now. The copy stays as it is. */
  changed(context: PlaneContext): Registers {
    const { u8 } = this.#machine.arena;
    const copy = this.#copyOf(context);
    const found: Record<string, string> = {};
    for (const r of this.#registers) {
      const end = r.offset + r.size;
      for (let i = r.offset; i < end; i++) {
        if (u8[context.base + i] === copy[i]) continue;
        found[r.name] = readRegister(u8, context.base, r);
        break;
      }
    }
    return found;
  }

  /** Value of a register in the copy. */
  value(context: PlaneContext, name: string): string {
    return readRegister(this.#copyOf(context), 0, this.#machine.arch.layout.register(name));
  }

  /** Takes a new copy of a context. */
  sync(context: PlaneContext): void {
    const { size } = this.#machine.arch.layout;
    this.#copyOf(context).set(this.#machine.arena.u8.subarray(context.base, context.base + size));
  }
}

/**
 * Writes registers of a trace into a context; unknown values leave theirs.
 * @throws {HostError} BadTrace on a register the architecture has not or a value that does not fit.
 */
export const applyRegisters = (machine: Machine, context: PlaneContext, registers: Registers, line: number): void => {
  const { layout } = machine.arch;
  for (const [name, value] of Object.entries(registers)) {
    const register = layout.has(name) ? layout.register(name) : null;
    if (register === null) throw new HostError('BadTrace', `line ${line}: architecture ${machine.arch.name} has no register '${name}'`, { line });
    if (value === 'unknown') continue;
    if (!fitsRegister(value, register)) throw new HostError('BadTrace', `line ${line}: ${value} does not fit register '${name}' of ${register.size} bytes`, { line });
    writeRegister(machine.arena.u8, context.base, register, value);
  }
};
