import { type HvRegisterName, HvStatus, HvX64InterruptStateRegister, HvX64PendingInterruptionRegister, HvX64PendingInterruptionType } from '@vmplanes/abi-hyperv';
import { Activity } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';
import { MASK_64, type RegisterAccess, type RegisterBinding, stored } from './binding.ts';

const { Success, InvalidParameter, InvalidRegisterValue } = HvStatus;
const { Interrupt, Nmi, Exception, SoftwareInterrupt } = HvX64PendingInterruptionType;
const NMI_VECTOR = 2;
const HIGHEST_EXCEPTION = 31;
const SUSPENDED = 1n;
/** State of an exception whose delivery has begun. */
const INJECTED = 2;
const STARTUP = 1n;
const HALTED = 2n;
const IDLE = 4n;
/** After MOV SS: the shadow that holds everything back. */
const SHADOW = 1;

const getWord = ({ hv, target }: RegisterAccess, cell: number): number => hv.machine.arena.u32[(target.base + cell) >>> 2]!;
const setWord = ({ hv, target }: RegisterAccess, cell: number, value: number): void => {
  hv.machine.arena.u32[(target.base + cell) >>> 2] = value;
};
const changed = ({ hv, target }: RegisterAccess): number => {
  hv.machine.eventsChanged(target);
  return Success;
};

/** The event whose delivery has begun. @spec Linux include/hyperv/hvgdk_mini.h */
const pendingInterruption: RegisterBinding = {
  read: (access) => {
    if (getWord(access, X86['nmi.injected']) !== 0) return HvX64PendingInterruptionRegister.pack({ interruptionPending: true, interruptionType: Nmi, interruptionVector: NMI_VECTOR });
    if (getWord(access, X86['exception.state']) !== 0) {
      return HvX64PendingInterruptionRegister.pack({
        interruptionPending: true, interruptionType: Exception, interruptionVector: getWord(access, X86['exception.vector']),
        deliverErrorCode: getWord(access, X86['exception.hasErrorCode']) !== 0, errorCode: getWord(access, X86['exception.errorCode']),
      });
    }
    if (getWord(access, X86['interrupt.injected']) === 0) return 0n;
    const isSoft = getWord(access, X86['interrupt.soft']) !== 0;
    return HvX64PendingInterruptionRegister.pack({
      interruptionPending: true, interruptionType: isSoft ? SoftwareInterrupt : Interrupt, interruptionVector: getWord(access, X86['interrupt.vector']),
      instructionLength: isSoft ? getWord(access, X86['event.instructionLength']) : 0,
    });
  },
  write: (access, value) => {
    const event = HvX64PendingInterruptionRegister.unpack(value & MASK_64);
    const { interruptionVector: vector, interruptionType: type } = event;
    const isKnown = type === Interrupt || type === SoftwareInterrupt ? vector <= 0xff : type === Nmi ? vector === NMI_VECTOR : type === Exception && vector <= HIGHEST_EXCEPTION && vector !== NMI_VECTOR;
    if (event.interruptionPending && !isKnown) return InvalidRegisterValue;
    for (const cell of ['nmi.injected', 'exception.state', 'interrupt.injected'] as const) setWord(access, X86[cell], 0);
    if (!event.interruptionPending) return changed(access);
    if (type === Nmi) setWord(access, X86['nmi.injected'], 1);
    else if (type === Exception) {
      access.hv.arch.injectFault(access.target, { code: vector, errorCode: event.deliverErrorCode ? event.errorCode : null, addressLo: 0, addressHi: 0 });
      setWord(access, X86['exception.state'], INJECTED);
    }
    else {
      setWord(access, X86['interrupt.injected'], 1);
      setWord(access, X86['interrupt.vector'], vector);
      setWord(access, X86['interrupt.soft'], type === SoftwareInterrupt ? 1 : 0);
      setWord(access, X86['event.instructionLength'], event.instructionLength);
    }
    return changed(access);
  },
};

const interruptState: RegisterBinding = {
  read: (access) => HvX64InterruptStateRegister.pack({ interruptShadow: getWord(access, X86.interruptShadow) !== 0, nmiMasked: getWord(access, X86['nmi.blocked']) !== 0 }),
  write: (access, value) => {
    if ((value & HvX64InterruptStateRegister.reservedMask) !== 0n) return InvalidRegisterValue;
    const { interruptShadow, nmiMasked } = HvX64InterruptStateRegister.unpack(value & MASK_64);
    setWord(access, X86.interruptShadow, interruptShadow ? SHADOW : 0);
    setWord(access, X86['nmi.blocked'], nmiMasked ? 1 : 0);
    return changed(access);
  },
};

/** Only a VTL above gives events. @spec openvmm openhcl/virt_mshv_vtl/src/processor/hardware_cvm/mod.rs */
const pendingEvent = (half: 0 | 1): RegisterBinding => ({
  read: ({ hv, target, caller }) => (target.plane < caller.plane ? hv.chapters.events.read(target, half) : null),
  write: ({ hv, target, caller }, value) => (target.plane < caller.plane ? hv.chapters.events.write(target, half, value) : InvalidParameter),
});
const deliverability: RegisterBinding = {
  read: ({ hv, target, caller }) => (target.plane < caller.plane ? hv.chapters.events.notifications(target) : null),
  write: ({ hv, target, caller }, value) => (target.plane < caller.plane ? hv.chapters.events.setNotifications(target, caller.plane, value & MASK_64) : InvalidParameter),
};

/** Nothing of the VP runs. */
const explicitSuspend: RegisterBinding = {
  read: ({ target }) => (target.vp.suspended ? SUSPENDED : 0n),
  write: ({ target }, value) => {
    if ((value & MASK_64 & ~SUSPENDED) !== 0n) return InvalidRegisterValue;
    target.vp.suspended = (value & SUSPENDED) !== 0n;
    return Success;
  },
};
/** A VTL waits until an intercept of it was looked at; a VTL above can let it go on, not make it wait. */
const interceptSuspend: RegisterBinding = {
  read: ({ hv, target }) => (hv.chapters.intercepts.isWaiting(target) ? SUSPENDED : 0n),
  write: ({ hv, target }, value) => {
    if ((value & MASK_64 & ~SUSPENDED) !== 0n) return InvalidRegisterValue;
    if ((value & SUSPENDED) !== 0n) return stored(hv.chapters.intercepts.isWaiting(target));
    hv.chapters.intercepts.release(target);
    return Success;
  },
};

/** Why a VTL does not run. It cannot be set for the one that calls. @spec openvmm vm/hv1/hvdef/src/lib.rs */
const activityState: RegisterBinding = {
  read: ({ hv, target }) => {
    if (hv.chapters.clocks.isIdle(target)) return IDLE;
    return target.activity === Activity.WaitForSipi ? STARTUP : target.activity === Activity.Halted ? HALTED : 0n;
  },
  write: (access, value) => {
    const { hv, target, caller } = access;
    const wanted = value & MASK_64;
    if (target === caller || (wanted & ~(STARTUP | HALTED)) !== 0n || wanted === (STARTUP | HALTED)) return InvalidRegisterValue;
    // One that waits for something else goes on waiting.
    if (target.activity === Activity.Held && !hv.chapters.clocks.isIdle(target)) return stored(wanted === 0n);
    target.wait = null;
    target.activity = wanted === STARTUP ? Activity.WaitForSipi : wanted === HALTED ? Activity.Halted : Activity.Running;
    hv.arch.apicOf(target).latches.setWaitingForSipi(wanted === STARTUP);
    return changed(access);
  },
};

/** Registers of events and of what holds a VP. */
export const eventRegisters: Readonly<Partial<Record<HvRegisterName, RegisterBinding>>> = {
  ExplicitSuspend: explicitSuspend,
  InterceptSuspend: interceptSuspend,
  InternalActivityState: activityState,
  PendingInterruption: pendingInterruption,
  InterruptState: interruptState,
  PendingEvent0: pendingEvent(0),
  PendingEvent1: pendingEvent(1),
  DeliverabilityNotifications: deliverability,
};
