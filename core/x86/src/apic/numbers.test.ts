import { describe, expect, it } from 'vitest';
import { APIC_DEFAULT_BASE, ApicBase, ApicMode, modeOf, x2apicLogicalId } from './apic-base.ts';
import { BROADCAST } from './apic-map.ts';
import { APIC_IMAGE_BYTES, ApicFlag, Extra, LOCAL_APIC_BYTES } from './block.ts';
import { ApicEvent, ApicReset, latchOf } from './counters.ts';
import { Irqchip, IRQCHIP_PLANE, MAX_GSI_ROUTES } from './gsi-routing.ts';
import { AcceptResult, DeliveryMode, encodeIcr, icrIsAssert, icrIsInitDeassert, icrIsLevel, icrIsLogical, icrMode, icrShorthand, icrVector, Shorthand, TimerMode } from './icr.ts';
import { newMessage, NO_DESTINATION } from './ipi.ts';
import { LintPin } from './local-vectors.ts';
import { EINVAL, MSI_ADDRESS_PREFIX } from './msi.ts';
import { isApicMsr } from './register-access.ts';
import { ApicReg, CAN_READ, CAN_WRITE, defaultApicConfig, Esr, ICR_WRITABLE, Lvt, MSR_APIC_BASE, MSR_TSC_DEADLINE, RegisterRules, Svr, X2APIC_MSR_BASE, X2APIC_MSR_COUNT } from './registers.ts';

it('numbers of the manual', () => {
  expect({ ApicBase, APIC_DEFAULT_BASE, ApicMode, DeliveryMode, Shorthand, TimerMode, Svr, Esr, BROADCAST }).toEqual({
    ApicBase: { bsp: 0x100, x2apic: 0x400, enabled: 0x800 },
    APIC_DEFAULT_BASE: 0xfee0_0000,
    ApicMode: { disabled: 0, invalid: 1, xapic: 2, x2apic: 3 },
    DeliveryMode: { fixed: 0, lowestPriority: 1, smi: 2, reserved: 3, nmi: 4, init: 5, startUp: 6, extInt: 7 },
    Shorthand: { none: 0, self: 1, all: 2, allButSelf: 3 },
    TimerMode: { oneShot: 0, periodic: 1, tscDeadline: 2, reserved: 3 },
    Svr: { vector: 0xff, enabled: 0x100, focusDisabled: 0x200, suppressEoiBroadcast: 0x1000 },
    Esr: { redirectableIpi: 0x10, sendIllegalVector: 0x20, receiveIllegalVector: 0x40, illegalRegister: 0x80 },
    BROADCAST: { narrow: 0xff, wide: 0xffff_ffff },
  });
  expect(Lvt).toEqual({ vector: 0xff, modeShift: 8, deliveryStatus: 0x1000, polarity: 0x2000, remoteIrr: 0x4000, level: 0x8000, masked: 0x1_0000, timerModeShift: 17, timerTscDeadline: 0x4_0000 });
  expect([X2APIC_MSR_BASE, X2APIC_MSR_COUNT, MSR_APIC_BASE, MSR_TSC_DEADLINE, ICR_WRITABLE, MSI_ADDRESS_PREFIX]).toEqual([0x800, 0x100, 0x1b, 0x6e0, 0xc_cfff, 0xfee]);
  expect([0, 0x400, 0x800, 0xc00, 0xfee0_0d00, 0xffff_f3ff].map(modeOf)).toEqual([0, 1, 2, 3, 3, 0]);
  expect([0, 1, 15, 16, 0x1f, 0x123, 0xffff_ffff].map(x2apicLogicalId)).toEqual([1, 2, 0x8000, 0x1_0001, 0x1_8000, 0x12_0008, 0xffff_8000]);
});

it('numbers that owners and saved states rely on', () => {
  expect({ AcceptResult, ApicEvent, ApicReset, LintPin, Irqchip, IRQCHIP_PLANE, MAX_GSI_ROUTES, EINVAL, NO_DESTINATION }).toEqual({
    AcceptResult: { refused: 0, accepted: 1, merged: 2 },
    ApicEvent: { interrupt: 0, nmi: 1, smi: 2, init: 3, sipi: 4, extInt: 5 },
    ApicReset: { reset: 0, init: 1, disable: 2, load: 3 },
    LintPin: { lint0: 0, lint1: 1 },
    Irqchip: { picPrimary: 0, picSecondary: 1, ioapic: 2 },
    IRQCHIP_PLANE: 0,
    MAX_GSI_ROUTES: 4096,
    EINVAL: 22,
    NO_DESTINATION: -1,
  });
  expect(latchOf).toEqual([0, 1, 2, 4, 8, 16]);
  expect(newMessage()).toEqual({ destination: 0, isLogical: false, isWide: false, mode: 0, vector: 0, isAssert: true, isLevel: false, isArbitrated: false });
  expect([LOCAL_APIC_BYTES, APIC_IMAGE_BYTES]).toEqual([0x500, 0x400]);
});

it('the layout of version 1 of the saved block', () => {
  expect(Extra).toEqual({ baseLow: 0x400, baseHigh: 0x404, initialId: 0x408, flags: 0x40c, sipiVector: 0x410, errors: 0x414, arbitration: 0x418, tscDeadlineLow: 0x420, tscDeadlineHigh: 0x424, timerDeadline: 0x428, counters: 0x440, discardedBy: 0x4b8 });
  expect(ApicFlag).toEqual({ nmi: 1, smi: 2, init: 4, sipi: 8, extInt: 16, waitForSipi: 32, lint0: 64, lint1: 128, errorDisarmed: 256 });
});

it('the MSRs of the APIC are IA32_APIC_BASE, IA32_TSC_DEADLINE and 0x800 to 0x8ff', () => {
  for (const [msr, is] of [[0x1b, true], [0x1a, false], [0x1c, false], [0x6e0, true], [0x6df, false], [0x6e1, false], [0x7ff, false], [0x800, true], [0x8ff, true], [0x900, false], [0xc000_0800, false], [0, false]] as const) {
    expect([msr, isApicMsr(msr)]).toEqual([msr, is]);
  }
});

describe('the interrupt command register, field by field (SDM 3A §10.6.1 figure 10-12)', () => {
  const fields = (low: number): unknown[] => [icrVector(low), icrMode(low), icrIsLogical(low), icrIsAssert(low), icrIsLevel(low), icrShorthand(low)];
  it.each([
    [0, [0, 0, false, false, false, 0]],
    [0xff, [0xff, 0, false, false, false, 0]],
    [0x100, [0, 1, false, false, false, 0]],
    [0x200, [0, 2, false, false, false, 0]],
    [0x400, [0, 4, false, false, false, 0]],
    [0x700, [0, 7, false, false, false, 0]],
    [0x800, [0, 0, true, false, false, 0]],
    [0x1000, [0, 0, false, false, false, 0]],
    [0x2000, [0, 0, false, false, false, 0]],
    [0x4000, [0, 0, false, true, false, 0]],
    [0x8000, [0, 0, false, false, true, 0]],
    [0x1_0000, [0, 0, false, false, false, 0]],
    [0x2_0000, [0, 0, false, false, false, 0]],
    [0x4_0000, [0, 0, false, false, false, 1]],
    [0x8_0000, [0, 0, false, false, false, 2]],
    [0xc_0000, [0, 0, false, false, false, 3]],
    [0x10_0000, [0, 0, false, false, false, 0]],
    [0xfff0_0000, [0, 0, false, false, false, 0]],
  ])('%i', (low, expected) => {
    expect(fields(low)).toEqual(expected);
  });

  it('is built from its fields', () => {
    expect(encodeIcr({ vector: 0x31, mode: DeliveryMode.fixed })).toBe(0x4031);
    expect(encodeIcr({ vector: 0x131, mode: DeliveryMode.nmi, logical: true })).toBe(0x4c31);
    expect(encodeIcr({ vector: 0, mode: DeliveryMode.init, level: true, assert: false })).toBe(0x8500);
    expect(encodeIcr({ vector: 0, mode: DeliveryMode.init, level: true, assert: true })).toBe(0xc500);
    for (const shorthand of [0, 1, 2, 3] as const) expect(encodeIcr({ vector: 1, mode: DeliveryMode.startUp, shorthand, level: false, logical: false })).toBe(0x4601 + shorthand * 0x4_0000);
  });

  it('INIT, level, de-assert: all three make the message that does nothing', () => {
    for (const mode of Object.values(DeliveryMode)) {
      for (const level of [false, true]) {
        for (const assert of [false, true]) expect([mode, level, assert, icrIsInitDeassert(encodeIcr({ vector: 0, mode, level, assert }))]).toEqual([mode, level, assert, mode === 5 && level && !assert]);
      }
    }
  });
});

/** [offset, slots, page, MSR, bits that can be set, bits free to write, value after RESET]: SDM 3A tables 10-1 and 10-6, figures 10-5 to 10-24. */
const table: readonly (readonly [offset: number, slots: number, page: string, msr: string, writable: number, ignored: number, reset: number])[] = [
  [0x020, 1, 'rw', 'r', 0xff00_0000, 0, 0], // ID
  [0x030, 1, 'r', 'r', 0, 0, 0x0106_0014], // version: 7 entries, SVR bit 12
  [0x080, 1, 'rw', 'rw', 0xff, 0, 0], // TPR
  [0x090, 1, 'r', '', 0, 0, 0], // APR
  [0x0a0, 1, 'r', 'r', 0, 0, 0], // PPR
  [0x0b0, 1, 'w', 'w', 0, 0, 0], // EOI
  [0x0c0, 1, 'r', '', 0, 0, 0], // RRD
  [0x0d0, 1, 'rw', 'r', 0xff00_0000, 0, 0], // LDR
  [0x0e0, 1, 'rw', '', 0xf000_0000, 0, 0xffff_ffff], // DFR
  [0x0f0, 1, 'rw', 'rw', 0x13ff, 0, 0xff], // SVR
  [0x100, 8, 'r', 'r', 0, 0, 0], // ISR
  [0x180, 8, 'r', 'r', 0, 0, 0], // TMR
  [0x200, 8, 'r', 'r', 0, 0, 0], // IRR
  [0x280, 1, 'rw', 'rw', 0, 0, 0], // ESR
  [0x2f0, 1, 'rw', 'rw', 0x1_07ff, 0x1000, 0x1_0000], // CMCI
  [0x300, 1, 'rw', 'rw', 0xc_cfff, 0x1000, 0], // ICR
  [0x310, 1, 'rw', '', 0xff00_0000, 0, 0], // ICR high
  [0x320, 1, 'rw', 'rw', 0x7_00ff, 0x1000, 0x1_0000], // timer
  [0x330, 1, 'rw', 'rw', 0x1_07ff, 0x1000, 0x1_0000], // thermal
  [0x340, 1, 'rw', 'rw', 0x1_07ff, 0x1000, 0x1_0000], // performance counters
  [0x350, 1, 'rw', 'rw', 0x1_a7ff, 0x5000, 0x1_0000], // LINT0
  [0x360, 1, 'rw', 'rw', 0x1_a7ff, 0x5000, 0x1_0000], // LINT1
  [0x370, 1, 'rw', 'rw', 0x1_00ff, 0x1000, 0x1_0000], // error
  [0x380, 1, 'rw', 'rw', 0xffff_ffff, 0, 0], // initial count
  [0x390, 1, 'r', 'r', 0, 0, 0], // current count
  [0x3e0, 1, 'rw', 'rw', 0xb, 0, 0], // divide
  [0x3f0, 1, '', 'w', 0xff, 0, 0], // self IPI
];

describe('registers (SDM 3A tables 10-1 and 10-6)', () => {
  const compiled = (rules: RegisterRules): unknown[] =>
    Array.from({ length: 64 }, (_, slot) => [slot << 4, rules.xapic[slot], rules.x2apic[slot], rules.writable[slot], rules.reserved[slot], rules.reset[slot]]);
  const expected = (rows: typeof table): unknown[] => {
    const access = (text: string): number => (text.includes('r') ? CAN_READ : 0) + (text.includes('w') ? CAN_WRITE : 0);
    return Array.from({ length: 64 }, (_, slot) => {
      const row = rows.find(([offset, slots]) => slot * 16 >= offset && slot * 16 < offset + slots * 16);
      if (!row) return [slot << 4, 0, 0, 0, 0xffff_ffff, 0];
      const [, , page, msr, writable, ignored, reset] = row;
      return [slot << 4, access(page), access(msr), writable, ~(writable | ignored) >>> 0, reset];
    });
  };
  const changed = (...changes: typeof table): typeof table => [...table.filter(([offset]) => !changes.some(([other]) => other === offset)), ...changes];

  it('with every feature', () => {
    expect(compiled(new RegisterRules(defaultApicConfig))).toEqual(expected(table));
    expect([CAN_READ, CAN_WRITE]).toEqual([1, 2]);
    expect(Object.values(new RegisterRules(defaultApicConfig)).map((column: Uint8Array | Uint32Array) => column.length)).toEqual([64, 64, 64, 64, 64]);
  });

  it('without CMCI: the register is absent and the version tells one entry less', () => {
    expect(compiled(new RegisterRules({ ...defaultApicConfig, cmci: false }))).toEqual(expected(changed([0x30, 1, 'r', 'r', 0, 0, 0x0105_0014]).filter(([offset]) => offset !== 0x2f0)));
  });

  it('without suppression of EOI broadcasts, without the TSC deadline', () => {
    expect(compiled(new RegisterRules({ ...defaultApicConfig, suppressEoiBroadcast: false }))).toEqual(expected(changed([0x30, 1, 'r', 'r', 0, 0, 0x0006_0014], [0xf0, 1, 'rw', 'rw', 0x3ff, 0, 0xff])));
    expect(compiled(new RegisterRules({ ...defaultApicConfig, tscDeadline: false }))).toEqual(expected(changed([0x320, 1, 'rw', 'rw', 0x3_00ff, 0x1000, 0x1_0000])));
  });

  it('the names of the offsets', () => {
    expect(ApicReg).toEqual({
      id: 0x20, version: 0x30, tpr: 0x80, apr: 0x90, ppr: 0xa0, eoi: 0xb0, rrd: 0xc0, ldr: 0xd0, dfr: 0xe0, svr: 0xf0, isr: 0x100, tmr: 0x180, irr: 0x200, esr: 0x280, lvtCmci: 0x2f0, icr: 0x300, icrHigh: 0x310,
      lvtTimer: 0x320, lvtThermal: 0x330, lvtPerf: 0x340, lvtLint0: 0x350, lvtLint1: 0x360, lvtError: 0x370, initialCount: 0x380, currentCount: 0x390, divide: 0x3e0, selfIpi: 0x3f0,
    });
  });

  it('a model with every feature', () => {
    expect(defaultApicConfig).toEqual({ x2apic: true, tscDeadline: true, cmci: true, suppressEoiBroadcast: true, busTicks: 1, physicalBits: 46, whileSoftwareDisabled: 'refuse' });
  });
});
