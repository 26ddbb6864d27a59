import { describe, expect, it } from 'vitest';
import * as abi from './index.ts';

// Numbers by hand, from APM vol. 2 and 3, the GHCB specification, the SNP ABI and the headers of Linux.

describe('exit codes', () => {
  it('leave a guest with encrypted state at once or by #VC first', () => {
    const published = `
      27 nae DR7_READ|37 nae DR7_WRITE|41 nae EXCP_DB|51 nae EXCP_AC|52 ae EXCP_MC|60 ae INTR|61 ae NMI|62 ae SMI|63 ae INIT|64 ae VINTR|6e nae RDTSC|6f nae RDPMC|72 nae CPUID|76 nae INVD|77 ae PAUSE|78 ae HLT
      7b nae IOIO|7c nae MSR|7f ae SHUTDOWN|81 nae VMMCALL|87 nae RDTSCP|89 nae WBINVD|8a nae MONITOR|8b nae MWAIT|8f ae EFER_WRITE_TRAP|90 ae CR0_WRITE_TRAP|a5 ae BUSLOCK|a6 ae IDLE_HLT|400 both NPF
      401 ae AVIC_INCOMPLETE_IPI|402 ae AVIC_NOACCEL|403 ae VMGEXIT|404 nae PAGE_NOT_VALIDATED|406 ae NOT_RESTARTABLE`;
    expect(abi.EXIT_CODES.map((r) => `${r.code.toString(16)} ${r.exits} ${r.name}`)).toEqual(published.trim().split(/\||\n/).map((text) => text.trim()));
  });
  it('have the same numbers by need', () =>
    expect(abi.SvmExit).toEqual({
      Dr7Read: 0x27, Dr7Write: 0x37, ExceptionBase: 0x40, Intr: 0x60, Rdtsc: 0x6e, Rdpmc: 0x6f, Cpuid: 0x72, Invd: 0x76, Pause: 0x77, Hlt: 0x78, Ioio: 0x7b, Msr: 0x7c, Shutdown: 0x7f, Vmmcall: 0x81, Rdtscp: 0x87,
      Wbinvd: 0x89, Monitor: 0x8a, Mwait: 0x8b, EferWriteTrap: 0x8f, CrWriteTrap: 0x90, BusLock: 0xa5, Npf: 0x400, Vmgexit: 0x403, NotValidated: 0x404,
    }));
  it('come with vectors 28 and 29', () => expect([abi.HV_VECTOR, abi.VC_VECTOR]).toEqual([28, 29]));
});

describe('features', () => {
  /** Bit, name, whether it is served, whether it has a meaning under SEV-ES. */
  const published: readonly (readonly [number, string, boolean, boolean])[] = [
    [0, 'SnpActive', true, false], [1, 'VirtualTom', true, false], [2, 'ReflectVc', true, false], [3, 'RestrictedInjection', true, false], [4, 'AlternateInjection', true, false], [5, 'DebugSwap', true, true],
    [6, 'PreventHostIbs', true, true], [7, 'BtbIsolation', true, false], [8, 'VmplSss', true, false], [9, 'SecureTsc', true, false], [10, 'VmgexitParam', false, true], [11, 'PmcVirtualization', false, true],
    [12, 'IbsVirtualization', false, true], [13, 'GuestInterceptControl', false, false], [14, 'VmsaRegProt', false, false], [15, 'SmtProtection', true, false], [16, 'SecureAvic', false, false], [21, 'IbpbOnEntry', true, false],
  ];
  it('have their bits', () => {
    expect(abi.SEV_FEATURES.map((r) => [r.bit, r.name, r.isServed, r.worksUnderEs])).toEqual(published);
    expect(abi.SevFeature).toEqual(Object.fromEntries(published.map(([bit, name]) => [name, bit])));
  });
  it('are defined from 0 to 16 and at 21', () => expect(abi.SEV_FEATURES_DEFINED).toBe(0x21_ffff));
  it('are served but for 10 to 14 and 16', () => expect(abi.SEV_FEATURES_SERVED).toBe(0x20_83ff));
  it('stand two bits higher in SEV_STATUS, over what is active', () => expect([abi.SEV_STATUS_SHIFT, abi.SevStatus]).toEqual([2, { Sev: 1, SevEs: 2, SevSnp: 4 }]));
  it('of a hypervisor are never these', () => expect(abi.HYPERVISOR_FEATURES.filter((f) => f.why !== null).map((f) => f.name)).toEqual(['restrictedInjectionTimer', 'sevEsPageStateChange', 'sevTio', 'extendedInterrupts']));
});

describe('MSRs', () => {
  it('have their numbers', () =>
    expect(abi.SevMsr).toEqual({
      Tsc: 0x10, Efer: 0xc000_0080, TscAux: 0xc000_0103, Syscfg: 0xc001_0010, VmPageFlush: 0xc001_011e, Ghcb: 0xc001_0130, SevStatus: 0xc001_0131, RmpBase: 0xc001_0132, RmpEnd: 0xc001_0133, GuestTscFreq: 0xc001_0134,
      VirtualTom: 0xc001_0135, SegmentedRmpCfg: 0xc001_0136, IdleWakeupIcr: 0xc001_0137, SecureAvicControl: 0xc001_0138, SvsmCaa: 0xc001_f000,
    }));
  it('of SEV say what an access does', () =>
    expect(abi.SEV_MSRS.map((r) => [r.index, r.name, r.read, r.write])).toEqual([
      [0xc001_011e, 'VM_PAGE_FLUSH', 'intercepted', 'intercepted'], [0xc001_0130, 'GHCB', 'direct', 'direct'], [0xc001_0131, 'SEV_STATUS', 'direct', '#GP'], [0xc001_0132, 'RMP_BASE', 'intercepted', 'intercepted'],
      [0xc001_0133, 'RMP_END', 'intercepted', 'intercepted'], [0xc001_0134, 'GUEST_TSC_FREQ', 'byFeature', '#GP'], [0xc001_0135, 'VIRTUAL_TOM', 'direct', '#GP'], [0xc001_0136, 'SEGMENTED_RMP_CFG', 'intercepted', 'intercepted'],
      [0xc001_0137, 'IDLE_WAKEUP_ICR', 'direct', 'direct'], [0xc001_0138, 'SECURE_AVIC_CONTROL', 'intercepted', 'intercepted'], [0xc001_f000, 'SVSM_CAA', 'intercepted', 'intercepted'],
    ]));
  it('that belong to the guest are not intercepted', () =>
    expect(abi.DIRECT_MSRS).toEqual([
      0x48, 0x49, 0x174, 0x175, 0x176, 0x1d9, 0x1db, 0x1dc, 0x1dd, 0x1de, 0x277, 0x6a0, 0x6a2, 0x6a4, 0x6a5, 0x6a6, 0x6a7, 0x6a8, 0xda0, 0xc000_0080, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0100,
      0xc000_0101, 0xc000_0102, 0xc000_0103,
    ]));
});

describe('the reverse map', () => {
  it('has statuses', () => expect(abi.RmpStatus).toEqual({ Success: 0, FailInput: 1, FailPermission: 2, FailInuse: 3, FailOverlap: 4, FailSizeMismatch: 6 }));
  it('has permissions', () => {
    expect(abi.VmplPermission).toEqual({ Read: 1, Write: 2, ExecuteUser: 4, ExecuteSupervisor: 8, SupervisorShadowStack: 0x10 });
    expect(abi.ALL_VMPL_PERMISSIONS).toBe(0x1f);
  });
  it('has pages of two sizes', () => expect([abi.RmpPageSize, abi.PAGES_PER_2M]).toEqual([{ Page4K: 0, Page2M: 1 }, 512]));
  it('names causes in the high half of a nested page fault', () => expect([abi.NpfErrorHigh, abi.NPF_RMP]).toEqual([{ FinalGpa: 1, GuestTable: 2, Enc: 4, Sizem: 8, Vmpl: 16, Sss: 32 }, 2 ** 31]));
  it('has instructions', () =>
    expect(abi.SEV_INSTRUCTIONS.map((r) => [r.mnemonic, r.encoding, r.modes, r.by])).toEqual([
      ['pvalidate', 'f2 0f 01 ff', 'any', 'guest'], ['rmpadjust', 'f3 0f 01 fe', '64-bit', 'guest'], ['rmpquery', 'f3 0f 01 fd', '64-bit', 'guest'], ['rmpread', 'f2 0f 01 fd', '64-bit', 'host'], ['psmash', 'f3 0f 01 ff', '64-bit', 'host'],
      ['rmpupdate', 'f2 0f 01 fe', '64-bit', 'host'],
    ]));
  it('leaves to a guest VMGEXIT in two encodings', () => expect(abi.VMGEXIT_ENCODINGS).toEqual(['f3 0f 01 d9', 'f2 0f 01 d9']));
});

describe('what CPUID tells', () => {
  it('is in leaf 8000001F', () => expect(abi.ENCRYPTED_MEMORY_LEAF).toBe(2 ** 31 + 31));
  it('is four VMPLs and C-bit 51', () => expect([abi.VMPL_COUNT, abi.C_BIT]).toEqual([4, 51]));
  it('fills a page of 64 functions', () => expect(abi.CPUID_FUNCTION_MAX).toBe(64));
});

describe('the GHCB protocol', () => {
  it('has versions 1 and 2', () => expect(abi.GHCB_PROTOCOL).toEqual({ minimum: 1, maximum: 2 }));
  it('lets scratch data have 16 pages', () => expect(abi.GHCB_SCRATCH_PAGES).toBe(16));
  it('keeps the code in 12 bits of the MSR, and 52 for a page', () => expect([abi.GHCB_MSR_CODE, abi.GHCB_MSR_NO_PAGE, abi.GHCB_MSR_PSC_ERROR]).toEqual([4095, (1n << 52n) - 1n, 2 ** 31]));
  it('names the registers of CPUID', () => expect(abi.GhcbMsrCpuidRegister).toEqual({ Eax: 0, Ebx: 1, Ecx: 2, Edx: 3 }));
  it('has codes since version 1 or 2, and some for guests with a reverse map', () =>
    expect(abi.GHCB_MSR_ROWS.map((r) => `${r.code.toString(16)} ${r.since}${r.needsSnp ? ' snp' : ''}`)).toEqual(
      '0 1|1 1|2 1|3 1|4 1|5 1|6 2|7 2|10 2 snp|11 2 snp|12 2 snp|13 2 snp|14 2 snp|15 2 snp|16 2 snp|17 2 snp|80 2|81 2|100 1|f00 1|f01 1|f02 1|f03 1'.split('|'),
    ));
  it('has events since version 1 or 2', () => {
    const second = [0x8000_0010, 0x8000_0011, 0x8000_0012, 0x8000_0013, 0x8000_0014, 0x8000_0015, 0x8000_0016, 0x8000_0017, 0x8000_0018, 0x8000_001a, 0x8000_001b, 0x8000_001c, 0x8000_001d, 0x8000_0020, 0x8000_0021, 0x8000_fffd, 0x8000_fffe];
    expect(abi.NAE_ROWS.filter((r) => r.since === 2).map((r) => r.code)).toEqual(second);
    expect(abi.NAE_ROWS.every((r) => r.since === 1 || r.since === 2)).toBe(true);
  });
  it('takes the codes of instructions from the processor and others from the protocol', () => {
    const instructions = abi.NAE_ROWS.filter((r) => r.spec.includes('sev_es_validate_vmgexit')).map((r) => r.code);
    expect(instructions).toEqual([0x27, 0x37, 0x41, 0x51, 0x6e, 0x6f, 0x72, 0x76, 0x7b, 0x7c, 0x81, 0x87, 0x89, 0x8a, 0x8b]);
  });
  it('has fields that events look at, and results', () => {
    const fields = (of: 'optional' | 'outputs') => Object.fromEntries(abi.NAE_ROWS.filter((r) => r[of].length > 0).map((r) => [r.code, r[of].join(' ')]));
    expect(fields('optional')).toEqual({ 0x72: 'xss', 0x7b: 'rax', 0x81: 'rbx rcx rdx rsi rdi r8', 0x8000_0012: 'rax rbx' });
    expect(fields('outputs')).toEqual({
      0x27: 'rax', 0x6e: 'rax rdx', 0x6f: 'rax rdx', 0x72: 'rax rbx rcx rdx', 0x7b: 'rax', 0x7c: 'rax rdx', 0x81: 'rax', 0x87: 'rax rcx rdx', 0x8000_0004: 'swExitInfo2', 0x8000_0005: 'swExitInfo2', 0x8000_0010: 'swExitInfo2',
      0x8000_0011: 'swExitInfo2', 0x8000_0012: 'swExitInfo2 rbx', 0x8000_0014: 'swExitInfo2', 0x8000_0017: 'rax', 0x8000_fffd: 'swExitInfo2',
    });
  });
  it('leaves codes from F0000000 on to hypervisors', () => expect(abi.NAE_HYPERVISOR_CODES).toBe(15 * 2 ** 28));
  it('has four requests about a doorbell page', () => expect(abi.DoorbellRequest).toEqual({ GetPreferred: 0, Set: 1, Query: 2, Clear: 3 }));
  it('has 512 pages in a large entry', () => expect(abi.PSC_LARGE_PAGES).toBe(512));
  it('has as many internal reasons of the SVSM as of Linux', () => expect(abi.TERMINATION_REASONS.filter((r) => r.set === 15).map((r) => r.code)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
});

describe('the firmware interface', () => {
  it('has one message header and one algorithm', () => {
    expect([abi.AEAD_AES_256_GCM, abi.MESSAGE_HEADER_VERSION, abi.MESSAGE_PAYLOAD_MAX, abi.MESSAGE_TAG_BYTES, abi.VMPCK_BYTES, abi.VMPCK_COUNT]).toEqual([1, 1, 4000, 16, 32, 4]);
    expect(abi.MESSAGE_AAD).toEqual({ start: 0x30, end: 0x60 });
  });
  it('selects keys', () => expect([abi.KeySelect, abi.SigningKey]).toEqual([{ VlekElseVcek: 0, Vcek: 1, Vlek: 2 }, { Vcek: 0, Vlek: 1, None: 7 }]));
  it('has reports of versions 2 to 5, signed up to 2A0h', () => expect([abi.REPORT_VERSIONS, abi.REPORT_SIGNED_BYTES]).toEqual([[2, 3, 4, 5], 672]));
  it('has ID blocks of version 1, secrets pages of version 3', () => expect([abi.ID_BLOCK_VERSION, abi.SECRETS_PAGE_VERSION]).toEqual([1, 3]));
  it('has one signature', () => expect([abi.ALGO_ECDSA_P384_SHA384, abi.CURVE_P384, abi.ECC_NUMBER_BYTES]).toEqual([1, 2, 72]));
  it('has another TCB from family 1Ah on', () => expect(abi.TURIN_FAMILY).toBe(26));
  it('measures save areas at the last page below 2^48', () => expect([abi.LAUNCH_VMSA_GPA, abi.LAUNCH_DIGEST_BYTES]).toEqual([2 ** 48 - 4096, 48]));
  it('has launch commands', () =>
    expect(abi.SevCommand).toEqual({
      Init: 0, EsInit: 1, LaunchStart: 2, LaunchUpdateData: 3, LaunchUpdateVmsa: 4, LaunchSecret: 5, LaunchMeasure: 6, LaunchFinish: 7, SnpLaunchStart: 100, SnpLaunchUpdate: 101, SnpLaunchFinish: 102,
    }));
  it('says what a status means', () => expect([abi.firmwareStatusMeaning(0), abi.firmwareStatusMeaning(0x1d)]).toEqual(['the command succeeded', 'the sequence number of a message key is used up']));
  it('has CPUID messages of a head and functions', () => expect([0, 1, 64].map(abi.cpuidMessageSize)).toEqual([16, 64, 3088]));
});
