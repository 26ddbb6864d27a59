import { HostError, type PlainRecord, type PlainState } from '@vmplanes/engine';
import { servedPrivileges } from './privilege-names.ts';

/** One option: its default, the JSON Schema of its values, and what it is for. */
interface Setting<T> {
  readonly initial: T;
  readonly schema: PlainRecord;
  readonly about: string;
  /** Public sources disagree about it: a profile may set it. */
  readonly isSwitch: boolean;
}

const setting = <T>(initial: T, schema: PlainRecord, about: string): Setting<T> => ({ initial, schema, about, isSwitch: false });
const whole = (initial: number, minimum: number, maximum: number, about: string): Setting<number> => setting(initial, { type: 'integer', minimum, maximum }, about);
const flag = (initial: boolean, about: string): Setting<boolean> => setting(initial, { type: 'boolean' }, about);
/** A switch; the first value is the default. */
const choice = <const V extends readonly [PlainState, ...PlainState[]]>(values: V, about: string): Setting<V[number]> => ({ initial: values[0], schema: { enum: values }, about, isSwitch: true });

/** A port and the connection to it, as the parent of the partition would make them. @spec TLFS Inter-Partition Communication */
export interface HvPort {
  readonly connectionId: number;
  readonly kind: 'message' | 'event';
  /** Who receives: a SINT of a VTL of a VP. */
  readonly vp: number;
  readonly vtl: number;
  readonly sint: number;
  /** First event flag, and how many there are. */
  readonly baseFlag: number;
  readonly flagCount: number;
  /** Lowest VTL that may use the connection. */
  readonly minConnectionVtl: number;
}

/** Offsets of the stubs in the hypercall page, bytes, by the mode of the caller. */
export interface CodeOffsets {
  readonly call64: number;
  readonly return64: number;
  readonly call32: number;
  readonly return32: number;
}

const integer = (minimum: number, maximum: number, initial?: number): PlainRecord => ({ type: 'integer', minimum, maximum, ...(initial === undefined ? {} : { default: initial }) });
const portSchema: PlainRecord = {
  type: 'object',
  properties: {
    connectionId: integer(1, 0xff_ffff),
    kind: { enum: ['message', 'event'] },
    vp: integer(0, 63, 0),
    vtl: integer(0, 2, 0),
    sint: integer(0, 15),
    baseFlag: integer(0, 2047, 0),
    flagCount: integer(0, 2048, 2048),
    minConnectionVtl: integer(0, 2, 0),
  },
  required: ['connectionId', 'kind', 'sint'],
  additionalProperties: false,
};
const offset = (initial: number): PlainRecord => integer(4, 0xff8, initial);
const defaultOffsets: CodeOffsets = { call64: 0x0f, return64: 0x26, call32: 0x04, return32: 0x1b };
const offsetsSchema: PlainRecord = { type: 'object', properties: Object.fromEntries(Object.entries(defaultOffsets).map(([name, at]) => [name, offset(at)])), additionalProperties: false };

/** Every option. */
const settings = {
  maximumVtl: whole(1, 0, 2, 'Highest VTL that may be enabled.'),
  mbec: flag(false, 'Mode-based execute control: separate execute rights for supervisor and user fetches of VTL0.'),
  dr6Shared: flag(false, 'DR6 is shared by the VTLs of a VP, as on some processors.'),
  xmmHypercalls: flag(true, 'XMM registers carry hypercall input and output.'),
  withhold: setting<readonly string[]>([], { type: 'array', items: { enum: servedPrivileges }, uniqueItems: true }, 'Privileges withheld from the partition.'),
  repBudget: whole(50_000, 1, 1_000_000_000, 'Virtual nanoseconds that one run of a rep hypercall may take before it is continued.'),
  ports: setting<readonly HvPort[]>([], { type: 'array', items: portSchema }, 'Ports of the partition with the connection to each.'),
  devices: setting<readonly number[]>([], { type: 'array', items: integer(0, 0xffff_ffff), uniqueItems: true }, 'Ids of devices whose interrupts may be retargeted.'),

  codeOffsets: { initial: defaultOffsets, schema: offsetsSchema, about: 'Offsets of the VTL call and return stubs in the hypercall page; openvmm: 0x0f and 0x26, its WHP back end: 0x0f and 0x28, QEMU: 0x16 and 0x20.', isSwitch: true } as Setting<CodeOffsets>,
  controlLayout: choice(['tlfs', 'v6'], 'Bits of the control word: of the online specification, or of the printed 6.0b (nested at 26, shorter header size).'),
  straddleStatus: choice([4, 3], 'Status when a parameter list crosses a page: alignment or input.'),
  vtlProtTarget: choice(['lenient', 'owner', 'restricted'], 'ModifyVtlProtectionMask names the owner of the protection, the restricted VTL, or (two VTLs) either.'),
  strictExecBits: choice([false, true], 'Execute needs both execute bits while MBEC is off.'),
  executeBitOrder: choice(['kernelFirst', 'userFirst'], 'Execute bits of access flags: kernel 2 and user 3, or user 2 and kernel 3.'),
  vsmCapsLayout: choice(['lsb', 'tlfs'], 'VsmCapabilities counts its bits from the least or the most significant end.'),
  mbecVtlMask: choice(['subject', 'owner'], 'MBEC masks name the VTLs that are subject to MBEC, or those that set it.'),
  partitionEnabledStatus: choice([0x51, 5], 'Status of EnablePartitionVtl for a VTL that is enabled.'),
  vpEnabledStatus: choice([0x86, 5], 'Status of EnableVpVtl for a VTL that is enabled there.'),
  badVtlStatus: choice([5, 6], 'Status of EnablePartitionVtl for VTL0 or beyond the maximum.'),
  allowUpwardIpi: choice([false, true], "A cluster IPI may name a VTL above the caller's."),
  clusterIpiAll: choice([true, false], 'A cluster IPI may use the set of all VPs.'),
  apicIdElement: choice([4, 8], 'Bytes of an element of GetVpIndexFromApicId.'),
  memoryMessageBytes: choice([0xf0, 0x50], 'Bytes of the payload of a memory intercept message: with the registers of the VP, or without.'),
  setRegistersElement: choice(['record', 'packed'], 'SetVpRegisters takes records of name and value, or all names and then all values.'),
  otherVpRegisters: choice([true, false], 'Get/SetVpRegisters reach other VPs than that of the caller.'),
  partitionIdStatus: choice(['byCall', 'invalidPartitionId'], 'Status of a partition id other than the own: as each call has it, or InvalidPartitionId always.'),
  interceptGva: choice([false, true], 'Memory intercept messages carry the linear address.'),
  maskChangeStatus: choice([0, 0x50], 'Status of a change of the default protection mask after it was set: kept silently, or refused.'),
  protectionClearStatus: choice([0, 0x50], 'Status of a write of VsmPartitionConfig that would disable protections again: kept silently, or refused.'),
  protectionsEnabledBy: choice(['bit', 'write'], 'Protections are enabled by bit 0 of VsmPartitionConfig, or by any write to it.'),
  strictSelfRegs: choice([false, true], "Get/SetVpRegisters refuses architectural registers of the caller's own VTL."),
  scontrolEnabled: choice([false, true], 'SCONTROL is enabled after reset.'),
  vtl1ApicSwEnabled: choice([false, true], 'The local APIC of a VTL above 0 starts software-enabled.'),
  translateOwnVtl: choice([true, false], "TranslateVirtualAddress accepts the caller's own VTL."),
  translateExOutput: choice([0x40, 24], 'Bytes of output of TranslateVirtualAddressEx: with event information, or without.'),
  busyIntercept: choice(['queue', 'drop'], 'A secure intercept that cannot be told waits one deep for its slot and is #GP without a SynIC, or it is dropped and the instruction executes again.'),
  hypercallPageWrite: choice(['gp', 'mc'], 'An access that an overlay page does not allow raises #GP or #MC.'),
  installInterceptCaller: choice(['higherVtl', 'parent', 'higherVtlAll'], 'InstallIntercept is for a higher VTL and I/O ports, for the parent partition alone, or for a higher VTL and I/O ports, CPUID leaves and exceptions.'),
  startStartedVp: choice(['refuse', 'restart'], 'StartVirtualProcessor refuses a VP that was started, or starts it again.'),
  dropStartup: choice(['always', 'denied'], 'INIT and SIPI to a VTL below an enabled one are dropped always, or only when DenyLowerVtlStartup is set.'),
  nonRamStatus: choice([5, 8], 'Status of protecting a page that is not RAM.'),
  prefillReturn: choice([true, false], 'Entering a VTL prefills the return registers of its assist page.'),
  vinaAutoReset: choice(['entry', 'return'], 'Automatic reset of VINA happens when its VTL is entered, or when it returns.'),
  assistPageContent: choice(['zeroFirst', 'zeroEach', 'kept'], 'Enabling the VP assist page clears it the first time, every time, or never.'),
};

/** Options of this personality. Where public sources disagree each choice is a named switch; a profile is a set of them. */
export type HvOptions = { readonly [K in keyof typeof settings]: (typeof settings)[K]['initial'] };
type HvOptionName = keyof HvOptions;

/** Every option at its default. */
export const defaultOptions: HvOptions = Object.fromEntries(Object.entries(settings).map(([name, s]) => [name, s.initial])) as HvOptions;

/** Switch settings bundled by whose expectations they meet. */
export const profiles = {
  default: {},
  'kvm-unit-tests': { vsmCapsLayout: 'tlfs', allowUpwardIpi: true },
  qemu: {
    vtlProtTarget: 'restricted',
    codeOffsets: { call64: 0x16, return64: 0x20, call32: 0x16, return32: 0x20 },
    partitionEnabledStatus: 5,
    vpEnabledStatus: 5,
    allowUpwardIpi: true,
    setRegistersElement: 'packed',
    partitionIdStatus: 'invalidPartitionId',
    vtl1ApicSwEnabled: true,
    assistPageContent: 'zeroEach',
  },
  whp: { codeOffsets: { call64: 0x0f, return64: 0x28, call32: 0x04, return32: 0x1b }, startStartedVp: 'restart' },
  openvmm: {
    vtlProtTarget: 'owner',
    strictExecBits: true,
    straddleStatus: 3,
    badVtlStatus: 6,
    clusterIpiAll: false,
    memoryMessageBytes: 0x50,
    otherVpRegisters: false,
    maskChangeStatus: 0x50,
    protectionClearStatus: 0x50,
    protectionsEnabledBy: 'write',
    scontrolEnabled: true,
    translateOwnVtl: false,
    busyIntercept: 'drop',
    dropStartup: 'denied',
    nonRamStatus: 8,
    prefillReturn: false,
    vinaAutoReset: 'return',
    assistPageContent: 'kept',
    strictSelfRegs: true,
  },
} as const satisfies Readonly<Record<string, Partial<HvOptions>>>;

/** Stands for the value that the profile gives. */
const BY_PROFILE = 'profile';

const byProfile = ({ enum: values, ...schema }: PlainRecord): PlainRecord => (values === undefined ? { anyOf: [{ const: BY_PROFILE }, schema] } : { enum: [BY_PROFILE, ...(values as readonly PlainState[])] });
const schemaOf = ({ initial, schema, about, isSwitch }: Setting<unknown>): PlainRecord =>
  isSwitch
    ? { ...byProfile(schema), default: BY_PROFILE, description: `${about} Unless the profile says otherwise: ${typeof initial === 'object' ? JSON.stringify(initial) : String(initial)}.` }
    : { ...schema, default: initial as PlainState, description: about };

/** JSON Schema of the options; every property has a default. */
export const optionsSchema: PlainRecord = {
  type: 'object',
  properties: {
    profile: { enum: Object.keys(profiles), default: 'default', description: 'A set of switches, bundled by whose expectations they meet.' },
    ...Object.fromEntries(Object.entries(settings).map(([name, s]) => [name, schemaOf(s)])),
  },
  additionalProperties: false,
};

const isProfile = (name: unknown): name is keyof typeof profiles => typeof name === 'string' && Object.hasOwn(profiles, name);
const portDefaults = { vp: 0, vtl: 0, baseFlag: 0, flagCount: 2048, minConnectionVtl: 0 } as const;

/**
 * Options of a configuration: the defaults, then its profile, then what it sets itself.
 * @throws {HostError} BadConfig on an unknown profile or name, and on ports that cannot be.
 */
export const optionsOf = (given: PlainRecord): HvOptions => {
  const { profile = 'default', ...own } = given;
  if (!isProfile(profile)) throw new HostError('BadConfig', `hyperv-vtl: unknown profile '${String(profile)}'`, { fix: `use one of ${Object.keys(profiles).join(', ')}` });
  const unknown = Object.keys(own).find((name) => !Object.hasOwn(settings, name));
  if (unknown !== undefined) throw new HostError('BadConfig', `hyperv-vtl: unknown option '${unknown}'`);
  const chosen = Object.fromEntries(Object.entries(own).filter(([name, value]) => value !== undefined && !(settings[name as HvOptionName].isSwitch && value === BY_PROFILE)));
  const options: HvOptions = { ...defaultOptions, ...profiles[profile], ...chosen };
  const ports = options.ports.map((port) => ({ ...portDefaults, ...port }));
  checkPorts(ports, options.maximumVtl);
  return { ...options, codeOffsets: { ...defaultOffsets, ...options.codeOffsets }, ports };
};

const checkPorts = (ports: readonly HvPort[], maximumVtl: number): void => {
  const seen = new Set<number>();
  for (const { connectionId, vtl, minConnectionVtl, kind, baseFlag, flagCount } of ports) {
    const refuse = (why: string): never => {
      throw new HostError('BadConfig', `hyperv-vtl: port with connection ${connectionId}: ${why}`);
    };
    if (seen.has(connectionId)) refuse('the connection is there already');
    seen.add(connectionId);
    if (vtl > maximumVtl || minConnectionVtl > maximumVtl) refuse(`there is no VTL above ${maximumVtl}`);
    if (kind === 'event' && baseFlag + flagCount > 2048) refuse('its flags end behind the last flag of a SINT');
  }
};
