import * as abi from '@vmplanes/abi-sev-snp';
import { describe, expect, it } from 'vitest';

describe('the layout of the GHCB', () => {
  /** Offset and valid bit of each field, from the specification. */
  const fields: readonly (readonly [name: abi.GhcbField, offset: number, bit: number])[] = [
    ['cpl', 0x0cb, 25], ['xss', 0x140, 40], ['dr7', 0x160, 44], ['rip', 0x178, 47], ['rsp', 0x1d8, 59], ['rax', 0x1f8, 63], ['rcx', 0x308, 97], ['rdx', 0x310, 98], ['rbx', 0x318, 99],
    ['rbp', 0x328, 101], ['rsi', 0x330, 102], ['rdi', 0x338, 103], ['r8', 0x340, 104], ['r9', 0x348, 105], ['r10', 0x350, 106], ['r11', 0x358, 107], ['r12', 0x360, 108], ['r13', 0x368, 109], ['r14', 0x370, 110],
    ['r15', 0x378, 111], ['swExitCode', 0x390, 114], ['swExitInfo1', 0x398, 115], ['swExitInfo2', 0x3a0, 116], ['swScratch', 0x3a8, 117], ['xcr0', 0x3e8, 125],
  ];
  it.each(fields)('%s is at 0x%x, valid bit %i', (name, offset, bit) => expect([abi.Ghcb.at[name], abi.ghcbValidBit[name]]).toEqual([offset, bit]));
  it('has no other field with a valid bit', () => expect([...abi.ghcbFields].sort()).toEqual(fields.map(([name]) => name).sort()));
  it.each([['validBitmap', 0x3f0], ['x87StateGpa', 0x400], ['sharedBuffer', 0x800], ['protocolVersion', 0xffa], ['ghcbUsage', 0xffc]] as const)('%s is at 0x%x', (name, offset) => expect(abi.Ghcb.at[name]).toBe(offset));
  it('is a page with a buffer of 2032 bytes', () => expect([abi.Ghcb.size, abi.GHCB_BUFFER_BYTES, abi.GHCB_BUFFER.from, abi.GHCB_BUFFER.to]).toEqual([4096, 2032, 0x800, 0xff0]));
  it('is read and written alike', () => {
    const view = new DataView(new ArrayBuffer(4096));
    view.setBigUint64(0x390, 0x8000_0010n, true);
    view.setUint16(0xffa, 2, true);
    const page = abi.Ghcb.read(view, 0);
    expect([page.swExitCode, page.protocolVersion]).toEqual([0x8000_0010n, 2]);
  });
  it.each([['data', 0], ['outputGpa', 0xfe8], ['control', 0xff0], ['protocolVersion', 0xffa], ['ghcbUsage', 0xffc]] as const)('as a hypercall page it has %s at 0x%x', (name, offset) => expect(abi.GhcbHypercallPage.at[name]).toBe(offset));
  it('has three usages, three results and six reasons', () => {
    expect(abi.GhcbUsage).toEqual({ Standard: 0, HypervHypercall: 1, HypervVtlReturn: 2 });
    expect(abi.GhcbResult).toEqual({ Success: 0, Exception: 1, InvalidInput: 2 });
    expect(abi.GhcbReason).toEqual({ NotRegistered: 1, InvalidUsage: 2, InvalidScratch: 3, MissingInput: 4, InvalidInput: 5, InvalidEvent: 6 });
  });
  it('has errors of guest requests', () => expect(abi.GuestRequestError).toEqual({ None: 0, InvalidLength: 1, Busy: 2, Generic: 0xffff_ffff }));
});

describe('the MSR protocol', () => {
  const codes: readonly (readonly [code: number, role: string, reply: number | null])[] = [
    [0x000, 'address', null], [0x001, 'response', null], [0x002, 'request', 0x001], [0x003, 'request', null], [0x004, 'request', 0x005], [0x005, 'response', null], [0x006, 'request', 0x007], [0x007, 'response', null],
    [0x010, 'request', 0x011], [0x011, 'response', null], [0x012, 'request', 0x013], [0x013, 'response', null], [0x014, 'request', 0x015], [0x015, 'response', null], [0x016, 'request', 0x017], [0x017, 'response', null],
    [0x080, 'request', 0x081], [0x081, 'response', null], [0x100, 'request', null], [0xf00, 'event', null], [0xf01, 'event', null], [0xf02, 'event', null], [0xf03, 'event', null],
  ];
  it('has these codes, in this order', () => expect(abi.GHCB_MSR_ROWS.map((r) => [r.code, r.role, r.reply])).toEqual(codes));
  it('names a response for every reply', () => {
    const responses = abi.GHCB_MSR_ROWS.filter((r) => r.role === 'response').map((r) => r.code);
    expect(abi.GHCB_MSR_ROWS.flatMap((r) => (r.reply === null ? [] : [r.reply]))).toEqual(responses);
  });
  it('ends guests without a reverse map on 0x010, 0x012 and 0x014', () => expect(abi.GHCB_MSR_ROWS.filter((r) => /ends the guest/.test(r.note)).map((r) => r.code)).toEqual([0x010, 0x012, 0x014]));
  it.each([
    ['SEV information', abi.GhcbMsrSevInfo.pack({ code: 1, cBit: 51, minimum: 1, maximum: 2 }), 0x0002_0001_3300_0001n],
    ['CPUID request', abi.GhcbMsrCpuidRequest.pack({ code: 4, register: 3, function: 0x8000_001f }), 0x8000_001f_c000_0004n],
    ['CPUID response', abi.GhcbMsrCpuidResponse.pack({ code: 5, register: 1, value: 0xabcd }), 0x0000_abcd_4000_0005n],
    ['AP reset hold', abi.GhcbMsrApResetHold.pack({ code: 7, result: 1n }), 0x1007n],
    ['no preferred page', abi.GhcbMsrPage.pack({ code: 0x11, page: abi.GHCB_MSR_NO_PAGE }), 0xffff_ffff_ffff_f011n],
    ['registration', abi.GhcbMsrPage.pack({ code: 0x12, page: 0x8a30n }), 0x8a3_0012n],
    ['page state change', abi.GhcbMsrPageStateChange.pack({ code: 0x14, page: 0x8a30n, operation: 2 }), 0x0020_0000_08a3_0014n],
    ['page state change refused', abi.GhcbMsrError.pack({ code: 0x15, error: abi.GHCB_MSR_PSC_ERROR }), 0x8000_0000_0000_0015n],
    ['run VMPL', abi.GhcbMsrRunVmpl.pack({ code: 0x16, vmpl: 2 }), 0x0000_0002_0000_0016n],
    ['features', abi.GhcbMsrFeatures.pack({ code: 0x81, features: 0x27n }), 0x2_7081n],
    ['OVMF termination 2', abi.GhcbMsrTermination.pack({ code: 0x100, reasonSet: 1, reasonCode: 2 }), 0x2_1100n],
  ] as const)('%s', (_name, raw, value) => expect(raw).toBe(value));
});

describe('the hypervisor features', () => {
  it('have their bits', () =>
    expect(abi.HypervisorFeatures.shift).toEqual({ snp: 0, snpApCreation: 1, restrictedInjection: 2, restrictedInjectionTimer: 3, apicIdList: 4, multipleVmpls: 5, sevEsPageStateChange: 6, sevTio: 7, extendedInterrupts: 9 }));
  it('are all rows', () => expect(abi.HYPERVISOR_FEATURES.map((f) => f.bit)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 9]));
  it('are never offered where the specification leaves them open', () => expect(abi.HYPERVISOR_FEATURES.filter((f) => f.why !== null).map((f) => f.bit)).toEqual([3, 6, 7, 9]));
});

describe('NAE events', () => {
  const codes = [
    0x27, 0x37, 0x41, 0x51, 0x6e, 0x6f, 0x72, 0x76, 0x7b, 0x7c, 0x81, 0x87, 0x89, 0x8a, 0x8b, 0x8000_0001, 0x8000_0002, 0x8000_0003, 0x8000_0004, 0x8000_0005, 0x8000_0010, 0x8000_0011, 0x8000_0012, 0x8000_0013,
    0x8000_0014, 0x8000_0015, 0x8000_0016, 0x8000_0017, 0x8000_0018, 0x8000_001a, 0x8000_001b, 0x8000_001c, 0x8000_001d, 0x8000_0020, 0x8000_0021, 0x8000_fffd, 0x8000_fffe, 0x8000_ffff,
  ];
  it('are these', () => expect(abi.NAE_ROWS.map((r) => r.code)).toEqual(codes));
  it('have one name each', () => expect(new Set(abi.NAE_ROWS.map((r) => r.name)).size).toBe(codes.length));

  /** Fields marked as required in the tables. */
  const required: Readonly<Record<number, readonly string[]>> = {
    0x37: ['rax'], 0x6f: ['rcx'], 0x72: ['rax', 'rcx'], 0x7c: ['rcx'], 0x81: ['rax', 'cpl'], 0x8a: ['rax', 'rcx', 'rdx'], 0x8b: ['rax', 'rcx'], 0x8000_0001: ['swScratch'], 0x8000_0002: ['swScratch'], 0x8000_0010: ['swScratch'],
    0x8000_0017: ['rax'],
  };
  it('require the fields that the tables mark', () => expect(Object.fromEntries(abi.NAE_ROWS.filter((r) => r.required.length > 0).map((r) => [r.code, r.required]))).toEqual(required));
  it('require some fields on a condition', () =>
    expect(abi.NAE_ROWS.flatMap((r) => r.requiredIf.map((c) => [r.code, c.when, ...c.fields]))).toEqual([
      [0x72, 'extendedState', 'xcr0'], [0x7b, 'out', 'rax'], [0x7b, 'string', 'swScratch'], [0x7c, 'write', 'rax', 'rdx'], [0x8000_0013, 'notDestroy', 'rax'],
    ]));
  it('need a reverse map where the tables say so', () =>
    expect(abi.NAE_ROWS.filter((r) => r.level === 'sev-snp' && r.refused === null).map((r) => r.code)).toEqual([0x8000_0010, 0x8000_0011, 0x8000_0012, 0x8000_0013, 0x8000_0014, 0x8000_0015, 0x8000_0017, 0x8000_0018]));
  it('name unknown ones by number', () => expect([abi.naeName(0x7b), abi.naeName(0x8000_0019)]).toEqual(['IOIO', '0x80000019']));

  it('have the information words of the processor', () => {
    expect(abi.NaeIoInfo.pack({ port: 0x3fd, data8: true, isIn: true })).toBe(0x03fd_0011);
    expect(abi.NaeIoInfo.pack({ port: 0x3f8, data8: true })).toBe(0x03f8_0010);
    expect(abi.NaeIoInfo.pack({ port: 1, isString: true, isRep: true, data32: true, address64: true, segment: 3 })).toBe(0x0001_0e4c);
    expect(abi.NaeApCreationInfo.pack({ request: abi.ApCreationRequest.Create, vmpl: 2, apicId: 1 })).toBe(0x1_0002_0001n);
    expect(abi.NaeTermination.pack({ reasonSet: 1, reasonCode: 3 })).toBe(0x31n);
    expect(abi.ApCreationRequest).toEqual({ CreateOnInit: 0, Create: 1, Destroy: 2 });
    expect(abi.ApJumpTable).toEqual({ Set: 0, Get: 1 });
  });
});

describe('a page state change', () => {
  it('has a head of 8 bytes', () => expect([abi.PscHeader.size, abi.PscHeader.at.curEntry, abi.PscHeader.at.endEntry]).toEqual([8, 0, 2]));
  it('has entries', () => expect(abi.PscEntry.pack({ page: 0x1234n, operation: abi.PscOperation.Shared, large: true, curPage: 3 })).toBe(0x0120_0000_0123_4003n));
  it('has 253 entries at most', () => expect(8 + abi.PSC_ENTRIES * 8).toBe(abi.GHCB_BUFFER_BYTES));
  it('has operations', () => expect(abi.PscOperation).toEqual({ Private: 1, Shared: 2, Psmash: 3, Unsmash: 4 }));
  it('has errors', () => expect(abi.PscError).toEqual({ InvalidHeader: { hi: 1, lo: 1 }, InvalidEntry: { hi: 1, lo: 2 }, Generic: { hi: 0x100, lo: 0 } }));
});

describe('reasons of termination', () => {
  it.each([
    [0, 0, 'general request to terminate'], [0, 1, 'range of GHCB protocol versions not supported'], [0, 2, 'SNP features not supported'], [1, 3, 'not at VMPL0 (Linux)'],
    [1, 1, 'page state change failed (Linux) or #VC that is not for CPUID (OVMF)'], [1, 12, 'secure AVIC setup failed (Linux)'], [15, 12, 'internal reason 12 of the SVSM (linux-svsm)'], [2, 0, 'no reason known'], [0, 3, 'no reason known'],
  ])('set %i code %i: %s', (set, code, text) => expect(abi.terminationText(set, code)).toBe(text));
  it('of Linux go from 0 to 12', () => expect(abi.TERMINATION_REASONS.filter((r) => r.by === 'Linux').map((r) => r.code)).toEqual(Array.from({ length: 13 }, (_, n) => n)));
});
